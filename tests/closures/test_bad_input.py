"""Bad arguments raise, and the message names the function, the argument and what was seen."""

import re

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import flatopt.equinox
import flatopt.nnx
from flatopt import closures

LOSS = lambda w, x: jnp.mean(x @ w)
BATCH = jnp.ones((6, 2))
MICRO = {
  "micro_value_and_grad": lambda batch, n: closures.micro_value_and_grad(LOSS, n)(None, batch),
  "nnx.micro_value_and_grad": lambda batch, n: flatopt.nnx.micro_value_and_grad(LOSS, n)(
    nnx.Linear(2, 1, rngs=nnx.Rngs(0)), batch
  ),
  "sampled_label_grad_fn": lambda batch, n: closures.sampled_label_grad_fn(
    LOSS, batch, num_microbatches=n
  ),
}
WITH_AUX = {
  "value_and_grad": closures.value_and_grad,
  "micro_value_and_grad": lambda loss_fn, **kwargs: closures.micro_value_and_grad(
    loss_fn, 2, **kwargs
  ),
  "nnx.value_and_grad": flatopt.nnx.value_and_grad,
  "nnx.micro_value_and_grad": lambda loss_fn, **kwargs: flatopt.nnx.micro_value_and_grad(
    loss_fn, 2, **kwargs
  ),
  "equinox.value_and_grad": flatopt.equinox.value_and_grad,
  "nnx.sharp_loss": flatopt.nnx.sharp_loss,
}


def raises(error, *parts):
  """Expects an error whose message has all these parts, in any order."""
  return pytest.raises(error, match="(?s)" + "".join(f"(?=.*{re.escape(p)})" for p in parts))


@pytest.mark.parametrize("name", MICRO)
def test_num_microbatches(name):
  for value in (2.0, True, "2", None):
    with raises(TypeError, f"{name}: num_microbatches must be a Python int", repr(value)):
      MICRO[name](BATCH, value)
  with raises(ValueError, f"{name}: num_microbatches must be >= 1; got 0"):
    MICRO[name](BATCH, 0)
  with raises(ValueError, f"{name}: num_microbatches must divide", "length 6", "got 4"):
    MICRO[name](BATCH, 4)


@pytest.mark.parametrize("name", MICRO)
def test_batch(name):
  argument = "inputs" if name == "sampled_label_grad_fn" else "batch"
  for batch in ({}, (jnp.ones(4), jnp.ones(6)), (jnp.ones(4), 1.0), jnp.array(3.0)):
    shapes = str([jnp.shape(x) for x in jax.tree.leaves(batch)])
    with raises(ValueError, f"{name}: all leaves of {argument} must have the same", shapes):
      MICRO[name](batch, 2)


@pytest.mark.parametrize("name", WITH_AUX)
def test_has_aux(name):
  for value in (1, "yes", None):
    with raises(TypeError, f"{name}: has_aux must be True or False", repr(value).strip("'")):
      WITH_AUX[name](LOSS, has_aux=value)


PAIR = jnp.ones((2, 2))
STEPS = {
  "value_and_grad": lambda loss_fn, **kwargs: closures.value_and_grad(loss_fn, **kwargs)(
    PAIR, PAIR
  ),
  "micro_value_and_grad": lambda loss_fn, **kwargs: closures.micro_value_and_grad(
    loss_fn, 2, **kwargs
  )(PAIR, PAIR),
  "nnx.value_and_grad": lambda loss_fn, **kwargs: flatopt.nnx.value_and_grad(loss_fn, **kwargs)(
    nnx.Linear(2, 1, rngs=nnx.Rngs(0)), PAIR
  ),
  "nnx.micro_value_and_grad": lambda loss_fn, **kwargs: flatopt.nnx.micro_value_and_grad(
    loss_fn, 2, **kwargs
  )(nnx.Linear(2, 1, rngs=nnx.Rngs(0)), PAIR),
  "equinox.value_and_grad": lambda loss_fn, **kwargs: flatopt.equinox.value_and_grad(
    loss_fn, **kwargs
  )(PAIR, PAIR),
  "nnx.sharp_loss": lambda loss_fn, **kwargs: flatopt.nnx.sharp_loss(loss_fn, **kwargs)(
    nnx.Linear(2, 1, rngs=nnx.Rngs(0)), PAIR
  ),
}


@pytest.mark.parametrize("name", STEPS)
def test_has_aux_that_does_not_fit_loss_fn(name):
  loss = jnp.zeros(())
  with raises(TypeError, f"{name}: loss_fn returned a tuple", "pass has_aux=True"):
    STEPS[name](lambda model, x: (loss, 1.0))
  with raises(TypeError, f"{name}: with has_aux=True, loss_fn must return (loss, aux)"):
    STEPS[name](lambda model, x: loss, has_aux=True)


def test_weight_that_is_no_scalar():
  step_fn = closures.micro_value_and_grad(LOSS, 2, weight_fn=lambda x: x)
  with raises(TypeError, "micro_value_and_grad: weight_fn must return a scalar", "(3, 2)"):
    step_fn(jnp.ones(2), BATCH)


def test_further_arguments_of_a_step_over_microbatches():
  for first, in_module in (("params", closures), ("model", flatopt.nnx)):
    step_fn = in_module.micro_value_and_grad(LOSS, 2)
    for args, kwargs in (((1,), {}), ((), {"key": 1})):
      with raises(TypeError, f"step_fn takes ({first}, batch)", f"lambda {first}, microbatch"):
        step_fn(jnp.ones(2), BATCH, *args, **kwargs)


@pytest.mark.parametrize("name", ["nnx.value_and_grad", "nnx.micro_value_and_grad"])
def test_wrt_that_selects_nothing_or_is_no_filter(name):
  with raises(ValueError, f"{name}: no variable of the model passes wrt=", "BatchStat"):
    STEPS[name](lambda model, x: jnp.mean(model(x)), wrt=nnx.BatchStat)
  with raises(TypeError, f"{name}: wrt must be a filter of NNX", "got 3"):
    STEPS[name](lambda model, x: jnp.mean(model(x)), wrt=3)


@pytest.mark.parametrize("is_short", [True, False])
def test_wrt_that_differs_from_the_optimizers(is_short):
  """In one case the params that the optimizer passes do not fit, in the other the gradients."""
  model, kernel = nnx.Linear(2, 1, rngs=nnx.Rngs(0)), nnx.PathContains("kernel")
  wrt, other = (nnx.Param, kernel) if is_short else (kernel, nnx.Param)
  optimizer = nnx.Optimizer(model, optax.chain(flatopt.sam(), optax.sgd(0.1)), wrt=other)
  step_fn = flatopt.nnx.value_and_grad(lambda model, x: jnp.mean(model(x)), wrt=wrt)
  _, grads, grad_fn = step_fn(model, PAIR)
  with raises(ValueError, "pass the same wrt", "nnx.Optimizer"):
    optimizer.update(model, grads, grad_fn=grad_fn)


def test_check():
  w = jnp.ones(2)
  with raises(ValueError, "check: rtol must be >= 0"):
    closures.check(w, w, lambda w: w, rtol=-1.0)
  with raises(TypeError, "check: grad_fn must be a function; got None"):
    closures.check(w, w, None)
  with raises(ValueError, "check: grads has no array at"):
    closures.check({"w": w}, w, lambda w: w)
  with raises(ValueError, "check: the result of grad_fn has shape (3,)"):
    closures.check(w, w, lambda w: jnp.ones(3))
