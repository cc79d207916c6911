# %% [markdown]
# # Flax Linen with BatchNorm
#
# BatchNorm updates its running statistics in every forward pass of training. A sharpness-aware step
# has two passes: the clean pass at the params, and a second pass at perturbed params. The model is
# never evaluated at the perturbed params, so their statistics are useless. The rule is: keep the
# statistics of the clean pass, and let `grad_fn` drop its own.

# %%
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import flatopt
import flatopt.linen


class Net(nn.Module):
  @nn.compact
  def __call__(self, x, train):
    for width in (32, 32):
      x = nn.Dense(width)(x)
      x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
    return nn.Dense(3)(x)


key = jax.random.key(0)
x = jax.random.normal(key, (512, 8))
labels = jnp.argmax(x[:, :3] * x[:, 3:6], axis=-1)

# %% [markdown]
# ## The state
#
# The method `apply_gradients` of Flax's own `TrainState` does not pass closures on to the
# optimizer. Use [`flatopt.linen.TrainState`](../reference/frameworks.md#flatopt.linen.TrainState)
# in its place. It does this, and otherwise it is the same class.


# %%
class TrainState(flatopt.linen.TrainState):
  batch_stats: Any


net = Net()
variables = net.init(key, x[:1], train=False)
state = TrainState.create(
  apply_fn=net.apply,
  params=variables["params"],
  batch_stats=variables["batch_stats"],
  tx=optax.chain(flatopt.sam(rho=0.05), optax.sgd(0.1, momentum=0.9)),
)

# %% [markdown]
# ## The step
#
# `loss_fn` returns the loss and the new statistics. The clean pass keeps both. `grad_fn` starts
# from the same *old* statistics. The `[0]` at its end keeps the gradient and drops the new
# statistics. This page writes the closure by hand to show what it does. In your own code prefer
# [`closures.value_and_grad(loss_fn, has_aux=True)`](../closures.md): it returns the same closure
# with the clean pass, so that the two cannot differ.


# %%
@jax.jit
def train_step(state, x, labels):
  def loss_fn(params):
    variables = {"params": params, "batch_stats": state.batch_stats}
    logits, changed = state.apply_fn(variables, x, train=True, mutable=["batch_stats"])
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return loss, changed["batch_stats"]

  (loss, batch_stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
  grad_fn = lambda params: jax.grad(loss_fn, has_aux=True)(params)[0]
  return state.apply_gradients(grads=grads, grad_fn=grad_fn, batch_stats=batch_stats), loss


for step in range(60):
  rows = (step * 128 + jnp.arange(128)) % 512
  state, loss = train_step(state, x[rows], labels[rows])
  if step % 20 == 19:
    print(f"step {step + 1}: loss {loss:.3f}")

# %% [markdown]
# ## Evaluation
#
# `eval_params` returns the params to evaluate at, for every method. For SAM they are the params
# themselves. For methods with slow weights or averages they are other params, and then you need new
# statistics. [Evaluate and export](../evaluating.md) shows how to compute them.

# %%
params = flatopt.eval_params(state.opt_state, state.params)
logits = net.apply({"params": params, "batch_stats": state.batch_stats}, x, train=False)
print(f"accuracy {jnp.mean(jnp.argmax(logits, axis=-1) == labels):.1%}")
print(
  f"{flatopt.extra_gradient_evaluations(state.opt_state)} extra gradients in {state.step} steps"
)
