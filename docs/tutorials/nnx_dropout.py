# %% [markdown]
# # Flax NNX with dropout
#
# Modules of NNX change in place: a training pass moves dropout's random counter on. Both passes of a
# sharpness-aware step must draw the same mask, or their difference is noise of dropout and not sharpness.
# [`flatopt.nnx.grad_fn`](../reference/frameworks.md#flatopt.nnx.grad_fn) takes a snapshot of the module, so make
# it *before* the clean pass.

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
# `nnx.Optimizer.update` hands keyword arguments on to the optimizer, so `grad_fn` goes straight in.

# %%
model = Net(nnx.Rngs(0))
tx = optax.chain(flatopt.sam(rho=0.05), optax.adamw(1e-2))
optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)


@nnx.jit
def train_step(model, optimizer, x, labels):
  grad_fn = flatopt.nnx.grad_fn(loss_fn, model, x, labels)  # before the clean pass
  loss, grads = nnx.value_and_grad(loss_fn)(model, x, labels)
  optimizer.update(model, grads, grad_fn=grad_fn)
  return loss


for step in range(60):
  loss = train_step(model, optimizer, x, labels)
  if step % 20 == 19:
    print(f"step {step + 1}: loss {loss:.3f}")

# %% [markdown]
# ## Is the mask the same?
#
# At the params themselves, `grad_fn` must return the gradient of the clean pass. With a mask of its own it would
# not. This is the check to do once in any trainer:

# %%
params = nnx.as_pure(nnx.state(model, nnx.Param))
grad_fn = flatopt.nnx.grad_fn(loss_fn, model, x, labels)
_, grads = nnx.value_and_grad(loss_fn)(model, x, labels)
difference = optax.tree.norm(optax.tree.sub(grad_fn(params), nnx.as_pure(grads)))
print(f"difference {difference:.1e}")

# %% [markdown]
# ## Evaluation
#
# `model.eval()` switches dropout off, and `model.train()` on again.

# %%
model.eval()
print(f"accuracy {jnp.mean(jnp.argmax(model(x), axis=-1) == labels):.1%}")
print(f"{flatopt.extra_gradient_evaluations(nnx.as_pure(optimizer.opt_state))} extra gradients")
