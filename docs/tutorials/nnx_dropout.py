# %% [markdown]
# # Flax NNX with dropout
#
# A sharpness-aware step computes two gradients, and their difference must come from the params
# only. So both passes must use the same dropout mask. In NNX this needs care, because modules
# change in place: every forward pass increases the counter from which dropout draws its mask.
#
# [`flatopt.nnx.value_and_grad`](../reference/frameworks.md#flatopt.nnx.value_and_grad) takes care
# of it. It works like `nnx.value_and_grad`, and also returns `grad_fn`, a closure that draws the
# same mask as the clean pass.

# %%
import jax
import jax.numpy as jnp
import optax
from flax import nnx

import flatopt
import flatopt.nnx


class Net(nnx.Module):
  def __init__(self, rngs):
    self.hidden = nnx.Linear(8, 64, rngs=rngs)
    self.dropout = nnx.Dropout(0.2, rngs=rngs)
    self.out = nnx.Linear(64, 3, rngs=rngs)

  def __call__(self, x):
    return self.out(self.dropout(nnx.relu(self.hidden(x))))


def loss_fn(model, x, labels):
  return optax.softmax_cross_entropy_with_integer_labels(model(x), labels).mean()


x = jax.random.normal(jax.random.key(0), (256, 8))
labels = jnp.argmax(x[:, :3] * x[:, 3:6], axis=-1)

# %% [markdown]
# ## The step
#
# `nnx.Optimizer.update` passes keyword arguments on to the optimizer, so you can pass it `grad_fn`.

# %%
model = Net(nnx.Rngs(0))
tx = optax.chain(flatopt.sam(rho=0.05), optax.adamw(1e-2))
optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
step_fn = flatopt.nnx.value_and_grad(loss_fn)


@nnx.jit
def train_step(model, optimizer, x, labels):
  loss, grads, grad_fn = step_fn(model, x, labels)
  optimizer.update(model, grads, grad_fn=grad_fn)
  return loss


for step in range(60):
  loss = train_step(model, optimizer, x, labels)
  if step % 20 == 19:
    print(f"step {step + 1}: loss {loss:.3f}")

# %% [markdown]
# ## Is the mask the same?
#
# At the params themselves, `grad_fn` must return the gradient of the clean pass. With another mask
# it would return another gradient. `flatopt.closures.check` compares the two and raises an error if
# they differ. Call it once in any trainer that you write:

# %%
params = nnx.state(model, nnx.Param)
_, grads, grad_fn = step_fn(model, x, labels)
flatopt.closures.check(grads, params, grad_fn)  # no error: they are equal

# %% [markdown]
# ## Evaluation
#
# `model.eval()` switches dropout off, and `model.train()` switches it on again.

# %%
model.eval()
print(f"accuracy {jnp.mean(jnp.argmax(model(x), axis=-1) == labels):.1%}")
print(f"{flatopt.extra_gradient_evaluations(nnx.as_pure(optimizer.opt_state))} extra gradients")
