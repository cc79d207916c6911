"""``check_optimizer`` raises for orders that do harm, and for no other."""

import jax
import jax.numpy as jnp
import optax
import pytest

import flatopt
from tests import problem
from tests.conformance.cases import CASES, ONE_OF_EACH_PLACE

SGD = optax.sgd(0.1)
WARMING_UP = optax.sgd(optax.linear_schedule(0.0, 0.1, 10))
ADAM = optax.adam(1e-3)
MASK = {"hidden": False, "out": True}

WRONG = {
  "sam": optax.chain(SGD, flatopt.sam()),
  "sam ": optax.chain(WARMING_UP, flatopt.sam()),
  "rst": optax.chain(optax.adamw(1e-3), flatopt.rst(flatopt.sam())),
  "gsam": flatopt.sala(optax.chain(SGD, flatopt.gsam())),
  "ire is after": optax.chain(ADAM, flatopt.ire(rho=0.1)),
  "asam": flatopt.trainable(optax.chain(SGD, flatopt.asam()), MASK),
  "looksam": optax.apply_if_finite(optax.chain(SGD, flatopt.looksam()), 2),
  "ire has nothing": flatopt.ire(),
  "ire has nothing ": optax.chain(flatopt.ire(), SGD),
  "ire has nothing  ": optax.chain(optax.clip_by_global_norm(1.0), flatopt.ire(), ADAM),
  "sala": optax.chain(flatopt.sala(SGD), optax.clip(1e-5)),
  "lookahead": optax.chain(flatopt.lookahead(ADAM), optax.add_decayed_weights(0.1)),
  "lookahead ": optax.contrib.schedule_free(flatopt.lookahead(SGD), 0.1),
  "lookbehind": optax.chain(flatopt.lookbehind(SGD), flatopt.ire()),
  "rst contains": flatopt.rst(optax.chain(flatopt.sam(), SGD), 0.5),
  "no learning rate, or rst contains it": flatopt.rst(optax.chain(flatopt.sam(), WARMING_UP)),
  "rst contains ": optax.chain(flatopt.rst(SGD), ADAM),
  "g_rst contains": optax.chain(flatopt.g_rst(optax.chain(flatopt.sam(), SGD)), ADAM),
  "climbs: sam has no base optimizer": flatopt.sam(),
  "climbs: sam has": optax.chain(flatopt.sam(), optax.scale_by_adam()),
  "climbs: lookahead has": flatopt.lookahead(flatopt.sam()),
  "uphill": flatopt.rst(optax.chain(flatopt.sam(), SGD), 0.0),
  "gsam is before sam": optax.chain(flatopt.gsam(), flatopt.sam(), SGD),
  "ire is before sam": optax.chain(flatopt.ire(rho=0.1), flatopt.sam(), SGD),
  "sam is before asam": optax.chain(
    flatopt.sam(), optax.clip_by_global_norm(0.1), flatopt.rst(flatopt.asam(), 1.0), ADAM
  ),
  "looksam is before asam": flatopt.lookbehind(optax.chain(flatopt.looksam(), flatopt.asam(), SGD)),
  "ire has nothing   ": optax.chain(flatopt.sam(), flatopt.ire(), ADAM),
  "momentum_sam is inside lookbehind": flatopt.lookbehind(flatopt.momentum_sam(SGD)),
  "sala is inside sala": flatopt.sala(flatopt.sala(SGD)),
  "sala is inside lookahead": flatopt.weight_average(flatopt.lookahead(flatopt.sala(SGD))),
  "weight_average is inside lookahead": flatopt.lookahead(
    optax.chain(flatopt.weight_average(SGD), optax.identity())
  ),
  "sam is inside optax.MultiSteps": optax.MultiSteps(
    optax.chain(flatopt.rst(flatopt.sam()), SGD), 2
  ),
  "sala is inside optax.MultiSteps": flatopt.trainable(
    optax.MultiSteps(flatopt.sala(SGD), 2).gradient_transformation(), MASK
  ),
  "ascent of sam descends": optax.chain(flatopt.sam(ascent=ADAM), SGD),
  "ascent of sam descends ": optax.chain(flatopt.rst(flatopt.sam(ascent=SGD), 0.5), SGD),
}

RIGHT = {
  "clipped in front": optax.chain(optax.clip_by_global_norm(1.0), flatopt.sam(), ADAM),
  "decay in front": optax.chain(optax.add_decayed_weights(0.1), flatopt.sam(), SGD),
  "all places": flatopt.lookahead(
    optax.chain(flatopt.rst(flatopt.asam()), optax.clip(1.0), optax.adamw(1e-3), flatopt.ire())
  ),
  "warm-up": optax.chain(flatopt.sam(), WARMING_UP, flatopt.ire()),
  "learning rate behind ire": optax.chain(
    optax.scale_by_adam(), flatopt.ire(), optax.scale_by_learning_rate(1e-3)
  ),
  "MultiSteps inside": optax.chain(
    flatopt.sam(), optax.MultiSteps(SGD, 2).gradient_transformation()
  ),
  "apply_if_finite": optax.apply_if_finite(flatopt.sala(SGD), 3),
  "trainable": flatopt.trainable(flatopt.sala(optax.chain(ADAM, flatopt.ire())), MASK),
  "schedule_free": optax.contrib.schedule_free(optax.chain(flatopt.sam(), SGD), 0.1),
  "partition": optax.chain(
    flatopt.sam(), optax.partition({"a": SGD, "b": ADAM}, {"hidden": "a", "out": "b"})
  ),
  "nested": flatopt.finish(flatopt.weight_average(flatopt.lookahead(flatopt.lookbehind(SGD))), 9),
  "ascent": optax.chain(flatopt.sam(ascent=optax.scale_by_adam()), SGD),
  "sam inside lookbehind": flatopt.lookbehind(optax.chain(flatopt.rst(flatopt.sam(), 1.0), SGD)),
  "sam inside sala": flatopt.sala(optax.chain(flatopt.sam(), SGD), sync_period=2, rho=9.0),
  "rare g_rst": optax.chain(flatopt.g_rst(flatopt.sam(), 0.1), SGD),
  "nested rst": optax.chain(flatopt.rst(flatopt.rst(flatopt.sam())), SGD),
  "no method": ADAM,
  "no base optimizer and no method": optax.scale_by_adam(),
}


@pytest.mark.parametrize("name", WRONG)
@jax.numpy_dtype_promotion("standard")  # MultiSteps itself promotes
def test_wrong_orders(name):
  with pytest.raises(ValueError, match=rf"check_optimizer: .*{name.strip()}"):
    flatopt.check_optimizer(WRONG[name], problem.make_params())


@pytest.mark.parametrize("name", RIGHT)
@jax.numpy_dtype_promotion("standard")
def test_right_orders(name):
  flatopt.check_optimizer(RIGHT[name], problem.make_params())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_method_in_its_place(case):
  flatopt.check_optimizer(case.make(), problem.make_params())


HUTCHINSON = [case for case in CASES if case.name == "ire_hutchinson"]


@pytest.mark.parametrize("case", ONE_OF_EACH_PLACE + HUTCHINSON, ids=lambda case: case.name)
def test_mapped_axes(case):
  optimizer = case.make(axis_name="data", shard_axes=("fsdp", "tensor"))
  axis_names = ("data", "fsdp", "tensor")
  flatopt.check_optimizer(optimizer, problem.make_params(), axis_names=axis_names)


def test_mapped_axes_that_are_missing_or_do_not_hide_a_wrong_order():
  optimizer = optax.chain(SGD, flatopt.sam(axis_name="hosts"))
  with pytest.raises(ValueError, match=r"check_optimizer: .*axis_names=.*unbound axis name: hosts"):
    flatopt.check_optimizer(optimizer, problem.make_params())
  with pytest.raises(ValueError, match="check_optimizer: sam is after the base"):
    flatopt.check_optimizer(optimizer, problem.make_params(), axis_names=("hosts",))


def test_what_the_wrong_order_does():
  """Twenty steps on |w|^2 / 2 from 1: one order descends, the other climbs."""

  def end(optimizer):
    w = jnp.ones(1)
    state = optimizer.init(w)
    for _ in range(20):
      updates, state = optimizer.update(w, state, w, grad_fn=lambda w: w)
      w = optax.apply_updates(w, updates)
    return float(jnp.sum(w**2) / 2)

  assert end(optax.chain(flatopt.sam(), SGD)) < 0.02
  assert end(optax.chain(SGD, flatopt.sam())) > 1e10


def test_large_params_do_not_hide_the_gradient():
  params = jax.tree.map(lambda x: 1e4 * x, problem.make_params())
  flatopt.check_optimizer(RIGHT["decay in front"], params)
  with pytest.raises(ValueError, match="sam is after"):
    flatopt.check_optimizer(WRONG["sam"], params)
