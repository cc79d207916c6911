"""The Gauss-Newton-Bartlett estimator of the curvature diagonal."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _tree
from flatopt._typing import AxisName


class GaussNewtonBartlettState(NamedTuple):
  """``count``: estimates so far, each of one gradient with sampled labels."""

  count: jax.Array

  method = "gauss_newton_bartlett"

  @property
  def extra_gradients(self):
    return self.count

  def metrics(self):
    return {"count": self.count}


def gauss_newton_bartlett(
  batch_size: int = 1, *, key: int | jax.Array = 0, axis_name: AxisName = None
) -> optax.GradientTransformationExtraArgs:
  """Estimates the Gauss-Newton diagonal by a squared gradient with sampled labels.

      g = sampled_grad_fn(params, key_t)
      estimate: batch_size * g * g

  The estimator of the IRE paper's experiments and the one to take for classifiers and
  language models: never negative, and a single gradient. Cost: 1 gradient.

  Args:
    batch_size: number of labels that one call samples independently (for a language
      model: tokens), >= 1; with it the estimate is unbiased for the Gauss-Newton
      diagonal of the mean loss. IRE only ranks, and needs no scale.
    key: int or JAX key; estimate t calls ``sampled_grad_fn`` with ``fold_in(key, t)``.
    axis_name: mapped axis under ``pmap`` or ``shard_map`` to average estimates over; all
      devices are given the same key, which the closure may fold the device into.

  Returns:
    A transformation whose ``update`` needs ``params`` and ``sampled_grad_fn(params,
    key) -> grads`` (see ``flatopt.closures.sampled_label_grad_fn``) and returns the
    estimate, like params; its updates argument is not read.

  State:
    count: int32, shape ().

  Raises:
    ValueError, TypeError: a bad argument, a missing ``sampled_grad_fn`` or ``params``.

  Source:
    Liu, Li, Hall, Liang, Ma 2023 (Sophia), arXiv 2305.14342, algorithm 2.

  Example:
    >>> import jax.numpy as jnp
    >>> from flatopt import closures, curvature
    >>> x = jnp.ones((4, 3))
    >>> sampled_grad_fn = closures.sampled_label_grad_fn(lambda w, x: x @ w, x)
    >>> estimator = curvature.gauss_newton_bartlett(batch_size=4)
    >>> w = jnp.zeros((3, 2))
    >>> estimate, _ = estimator.update(
    ...   w, estimator.init(w), w, sampled_grad_fn=sampled_grad_fn
    ... )
    >>> bool((estimate >= 0).all())
    True
  """
  _arguments.check_integer("gauss_newton_bartlett", "batch_size", batch_size, minimum=1)
  _arguments.check_key("gauss_newton_bartlett", key)
  _arguments.check_axis("gauss_newton_bartlett", axis_name)

  def init(params):
    return GaussNewtonBartlettState(count=jnp.zeros((), jnp.int32))

  def update(updates, state, params, step, extra_args):
    del updates, step
    params = _devices.varying(params, axis_name)
    grads = extra_args["sampled_grad_fn"](params, _arguments.draw_key(key, state.count))
    _arguments.check_gradients("gauss_newton_bartlett", "sampled_grad_fn", grads, params)
    square = lambda g: batch_size * jnp.square(g.astype(_tree.wide_dtype(g)))
    estimate = jax.tree.map(square, grads)
    return _devices.mean(estimate, axis_name), GaussNewtonBartlettState(
      _tree.increment(state.count)
    )

  return _method.transformation(
    "gauss_newton_bartlett",
    GaussNewtonBartlettState,
    init,
    update,
    place="curvature",
    closures=("sampled_grad_fn",),
  )
