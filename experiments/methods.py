"""The eleven methods on one base optimizer: SGD with momentum."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

import flatopt
from experiments.config import Config


def cosine_decay(peak: float) -> optax.GradientTransformationExtraArgs:
  """Scales by a learning rate that falls along a cosine of ``paid``, from ``peak`` to 0.

  ``paid`` is the share of the run's gradients already paid. A schedule over steps would have to
  know their number, which coins decide for RST and distances for SALA.
  """

  def update(updates, state, params=None, *, paid, **extra_args):
    del params, extra_args
    rate = peak * (1 + jnp.cos(jnp.pi * paid)) / 2
    return jax.tree.map(lambda u: -rate * u, updates), state

  return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def enhance(steps: int, start: float, **options):
  """IRE from the share ``start`` of the run on; before it, a step's cost is fixed."""
  curvature = flatopt.curvature.gauss_newton_bartlett()
  return flatopt.ire(**options, start_step=round(start * steps), curvature=curvature)


# method(base optimizer, gradients of a run, **hyper-parameters)
METHODS: dict[str, Callable[..., optax.GradientTransformation]] = {
  "sgd": lambda base, _: base,
  "lookahead": lambda base, _, **options: flatopt.lookahead(base, **options),
  "sam": lambda base, _, rho: optax.chain(flatopt.sam(rho), base),
  "asam": lambda base, _, rho: optax.chain(flatopt.asam(rho), base),
  "rst": lambda base, _, rho, probability: optax.chain(
    flatopt.rst(flatopt.sam(rho), probability), base
  ),
  "g_rst": lambda base, _, rho, probability: optax.chain(
    flatopt.g_rst(flatopt.sam(rho), probability), base
  ),
  "sala": lambda base, _, **options: flatopt.sala(base, **options),
  "lookbehind": lambda base, _, **options: flatopt.lookbehind(base, **options),
  "ire": lambda base, budget, **options: optax.chain(base, enhance(budget, **options)),
  "sam+ire": lambda base, budget, rho, **options: optax.chain(
    flatopt.sam(rho), base, enhance(budget // 2, **options)
  ),
  "ire(rho)": lambda base, budget, **options: optax.chain(enhance(budget // 2, **options), base),
}


def make_optimizer(
  config: Config, method: str, *, learning_rate: float, weight_decay: float, **options
) -> optax.GradientTransformationExtraArgs:
  base = optax.chain(
    optax.add_decayed_weights(weight_decay),
    optax.trace(config.momentum),
    cosine_decay(learning_rate),
  )
  return optax.with_extra_args_support(METHODS[method](base, config.gradients, **options))
