"""docs/metrics.md lists every metric of every method, with its dtype."""

import pathlib
import re

import jax
import jax.numpy as jnp
import optax

import flatopt

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "metrics.md"


def listed():
  """The dtype by metric, from the page's table."""
  return {
    metric: dtype
    for line in PAGE.read_text().splitlines()
    if (row := re.match(r"\| (`[^|]*`) \| (\w+) \|", line))
    for metric in re.findall(r"`(.*?)`", row[1])
    for dtype in [row[2]]
  }


def test_every_metric_is_listed():
  params = {"kernel": jnp.linspace(-1.0, 1.0, 12)}
  grad_fn = jax.grad(lambda p: jnp.sum(jnp.cosh(p["kernel"])))
  sampled_grad_fn = lambda p, key: {"kernel": jax.random.normal(key, (12,))}
  sgd, curvature = optax.sgd(0.1), flatopt.curvature
  reported = {}
  for optimizer in (
    optax.chain(flatopt.sam(), sgd),
    optax.chain(flatopt.asam(), sgd),
    optax.chain(flatopt.gsam(), flatopt.looksam(), flatopt.friendly_sam(), sgd),
    optax.chain(flatopt.rst(optax.identity()), flatopt.g_rst(optax.identity()), sgd),
    optax.chain(flatopt.ae_sam(optax.identity(), num_steps=9), sgd),
    optax.chain(sgd, flatopt.ire(curvature=curvature.hutchinson())),
    optax.chain(flatopt.ire(rho=0.05, curvature=curvature.gauss_newton_bartlett()), sgd),
    optax.contrib.sophia(0.1, hessian_diagonal_fn=curvature.empirical_fisher()),
    flatopt.finish(flatopt.lookahead(sgd), 1),
    flatopt.momentum_sam(sgd),
    flatopt.weight_average(sgd),
    flatopt.sala(sgd),
    flatopt.lookbehind(sgd),
  ):
    # As users run it: optax.contrib.sophia does not pass under strict promotion.
    with jax.numpy_dtype_promotion("standard"):
      _, opt_state = optimizer.update(
        grad_fn(params),
        optimizer.init(params),
        params,
        grad_fn=grad_fn,
        sampled_grad_fn=sampled_grad_fn,
      )
    reported |= flatopt.metrics(opt_state)
  assert {key: str(value.dtype) for key, value in reported.items()} == listed()
  assert {value.shape for value in reported.values()} == {()}
