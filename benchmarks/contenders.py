"""The methods of flatopt and comparable ones of optax, each as a step with the same base."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

import flatopt
from benchmarks.models import Model
from flatopt import closures

Carry = Any
StepFn = Callable[[Carry, jax.Array, jax.Array], Carry]


class Passes(NamedTuple):
  """The passes in a compiled step: what a step costs if all passes are due."""

  gradients: int = 1
  sampled_gradients: int = 0
  products: int = 0  # with the Hessian


class Contender(NamedTuple):
  """An optimizer to measure.

  init: ``params -> carry``.
  make_step: ``model -> step``, where ``step(carry, inputs, labels)`` returns the new carry.
  gradients: gradients per step, on average.
  passes: the passes in a compiled step.
  period: number of steps after which cheap and expensive steps repeat.
  calls: number of calls of the compiled function in one step.
  """

  name: str
  init: Callable[[Any], Carry]
  make_step: Callable[[Model], StepFn]
  gradients: float
  passes: Passes
  period: int = 1
  calls: int = 1


def base() -> optax.GradientTransformationExtraArgs:
  """The base optimizer of all contenders."""
  return optax.with_extra_args_support(optax.sgd(0.01, momentum=0.9))


def flat(name, optimizer, gradients, passes, period=1) -> Contender:
  """A method of flatopt, in a step that passes all closures, whether it needs them or not."""

  def make_step(model):
    def step(carry, inputs, labels):
      params, state = carry
      grad_fn = lambda p: jax.grad(model.loss_fn)(p, inputs, labels)
      sampled_grad_fn = closures.sampled_label_grad_fn(model.logits_fn, inputs)
      updates, state = optimizer.update(
        grad_fn(params), state, params, grad_fn=grad_fn, sampled_grad_fn=sampled_grad_fn
      )
      return optax.apply_updates(params, updates), state

    return step

  return Contender(name, lambda p: (p, optimizer.init(p)), make_step, gradients, passes, period)


def every_other_step(count: jax.Array) -> jax.Array:
  """A probability that is 1 on every other step.

  So exactly half of the steps are sharpness-aware; with random draws it would be 2 to 8 of 10.
  """
  return count % 2


def methods(base: Callable[[], Any] = base) -> list[Contender]:
  """Returns the methods of flatopt, after the base alone."""
  gnb, hutchinson = flatopt.curvature.gauss_newton_bartlett, flatopt.curvature.hutchinson
  before = lambda method: optax.chain(method, base())
  after = lambda method: optax.chain(base(), method)
  drift = lambda estimator: flatopt.ire(rho=0.05, curvature=estimator)
  lookbehind = lambda **settings: flatopt.lookbehind(base(), ascent_steps=5, **settings)
  one, two, six = (Passes(gradients=n) for n in (1, 2, 6))
  sampled, product = Passes(1, sampled_gradients=1), Passes(1, products=1)
  return [
    flat("base", base(), 1, one),
    flat("sam", before(flatopt.sam()), 2, two),
    flat("asam", before(flatopt.asam()), 2, two),
    flat("gsam", before(flatopt.gsam()), 2, two),
    flat("friendly_sam", before(flatopt.friendly_sam()), 2, two),
    flat("looksam(5)", before(flatopt.looksam(update_interval=5)), 1.2, two, 5),
    flat("momentum_sam", flatopt.momentum_sam(base()), 1, one),
    flat("rst(.5)", before(flatopt.rst(flatopt.sam(), every_other_step)), 1.5, two, 2),
    flat("g_rst(.5)", before(flatopt.g_rst(flatopt.sam(), every_other_step)), 1.5, two, 2),
    flat("ire(10), GNB", after(flatopt.ire(curvature=gnb())), 1.1, sampled, 10),
    flat("ire(10), Hutchinson", after(flatopt.ire(curvature=hutchinson())), 1.2, product, 10),
    flat("ire(rho), GNB", before(drift(gnb())), 2.1, sampled._replace(gradients=2), 10),
    flat(
      "ire(rho), Hutchinson", before(drift(hutchinson())), 2.2, product._replace(gradients=2), 10
    ),
    flat("lookahead(5)", flatopt.lookahead(base()), 1, one, 5),
    flat("sala(5), stage 2", flatopt.sala(base(), rho=1e3), 1.2, two, 5),
    flat("lookbehind(5), adaptive", lookbehind(interpolation="adaptive"), 6, six),
    flat("lookbehind(5), fixed", lookbehind(interpolation=0.5), 6, six),
    flat(
      "lookbehind(5), adaptive, unrolled", lookbehind(interpolation="adaptive", unroll=True), 6, six
    ),
    flat("lookbehind(5), fixed, unrolled", lookbehind(interpolation=0.5, unroll=True), 6, six),
  ]


def optax_peers(base: Callable[[], Any] = base) -> list[Contender]:
  """Returns the comparable optimizers of optax."""
  one, two = Passes(1), Passes(2)
  ascent = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
  opaque = optax.contrib.sam(base(), ascent, opaque_mode=True)
  transparent = optax.contrib.sam(base(), ascent)
  sophia = optax.contrib.sophia(1e-3)
  lookahead = optax.lookahead(base(), sync_period=5, slow_step_size=0.5)

  def opaque_step(model):
    def step(carry, inputs, labels):
      params, state = carry
      grad_fn = lambda p, _=0: jax.grad(model.loss_fn)(p, inputs, labels)
      updates, state = opaque.update(grad_fn(params), state, params, grad_fn=grad_fn)
      return optax.apply_updates(params, updates), state

    return step

  def plain_step(optimizer, differentiated=lambda params: params, with_objective=False):
    def make_step(model):
      def step(carry, inputs, labels):
        params, state = carry
        obj_fn = lambda p: model.loss_fn(p, inputs, labels)
        extra = {"obj_fn": obj_fn} if with_objective else {}
        grads = jax.grad(obj_fn)(differentiated(params))
        updates, state = optimizer.update(grads, state, params, **extra)
        return optax.apply_updates(params, updates), state

      return step

    return make_step

  def init_transparent(params):
    # Copies, because its state shares buffers with the params, which cannot be donated twice.
    return jax.tree.map(jax.numpy.copy, (params, transparent.init(params)))

  def init_lookahead(params):
    pair = jax.tree.map(jax.numpy.copy, optax.LookaheadParams.init_synced(params))
    return pair, lookahead.init(pair)

  return [
    Contender("optax.contrib.sam, opaque", lambda p: (p, opaque.init(p)), opaque_step, 2, two),
    Contender(
      "optax.contrib.sam, transparent", init_transparent, plain_step(transparent), 2, one, calls=2
    ),
    Contender(
      "optax.lookahead(5)",
      init_lookahead,
      plain_step(lookahead, lambda pair: pair.fast),
      gradients=1,
      passes=one,
      period=5,
    ),
    Contender(
      "optax.contrib.sophia(10)",
      lambda p: (p, sophia.init(p)),
      plain_step(sophia, with_objective=True),
      gradients=1.2,
      passes=Passes(1, products=1),
      period=10,
    ),
  ]


def contenders(only: list[str] | None = None, base: Callable[[], Any] = base) -> list[Contender]:
  """Returns all, or the base and those whose names begin with an entry of ``only``."""
  everything = [*methods(base), *optax_peers(base)]
  if only is None:
    return everything
  return [c for c in everything if c.name == "base" or c.name.startswith(tuple(only))]
