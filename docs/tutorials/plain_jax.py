# %% [markdown]
# # Your step, sharpness-aware
#
# You have a training step in plain JAX with an optax optimizer. Two changes make it
# sharpness-aware: one line in the optimizer, and one closure in the step. This page shows both in a
# complete program.
#
# The data are points in the plane. The label says whether their two coordinates have the same sign.
# A fifth of the training labels are wrong.

# %%
import jax
import jax.numpy as jnp
import optax

import flatopt


def make_data(key, size, share_wrong):
  keys = jax.random.split(key, 3)
  x = jax.random.uniform(keys[0], (size, 2), minval=-1, maxval=1)
  labels = (x[:, 0] * x[:, 1] > 0).astype(int)
  is_wrong = jax.random.bernoulli(keys[1], share_wrong, (size,))
  return x, jnp.where(is_wrong, 1 - labels, labels)


train_data = make_data(jax.random.key(0), 200, share_wrong=0.2)
test_data = make_data(jax.random.key(1), 2000, share_wrong=0.0)

# %% [markdown]
# The model is a network with two hidden layers:


# %%
def init_params(key, sizes=(2, 64, 64, 2)):
  keys = jax.random.split(key, len(sizes) - 1)
  return [
    {"kernel": jax.random.normal(k, (i, o)) * (2 / i) ** 0.5, "bias": jnp.zeros(o)}
    for k, i, o in zip(keys, sizes, sizes[1:], strict=False)
  ]


def logits_fn(params, x):
  for layer in params[:-1]:
    x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
  return x @ params[-1]["kernel"] + params[-1]["bias"]


def loss_fn(params, batch):
  x, labels = batch
  logits = logits_fn(params, x)
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


# %% [markdown]
# ## The step
#
# `grad_fn` is the closure: the gradient of the loss of *this* batch, as a function of the params.
# SAM calls it once, at params that are the distance `rho` uphill from the current ones. A plain
# optimizer does not need it, and ignores it with the help of `optax.with_extra_args_support`. So
# one step works for both.


# %%
def train(optimizer, num_steps):
  optimizer = optax.with_extra_args_support(optimizer)

  @jax.jit
  def train_step(params, opt_state):
    grad_fn = lambda p: jax.grad(loss_fn)(p, train_data)
    loss, grads = jax.value_and_grad(loss_fn)(params, train_data)
    updates, opt_state = optimizer.update(grads, opt_state, params, grad_fn=grad_fn)
    return optax.apply_updates(params, updates), opt_state, loss

  params = init_params(jax.random.key(2))
  opt_state = optimizer.init(params)
  for _ in range(num_steps):
    params, opt_state, loss = train_step(params, opt_state)
  return params, opt_state, loss


def accuracy(params, data):
  return jnp.mean(jnp.argmax(logits_fn(params, data[0]), axis=-1) == data[1])


# %% [markdown]
# ## SGD and SAM with the same number of gradients
#
# To make a method sharpness-aware, put `flatopt.sam` before the optimizer in a chain. A step of SAM
# costs two gradients, so it gets half as many steps as SGD here.

# %%
sgd = optax.sgd(0.3, momentum=0.9)
sam = optax.chain(flatopt.sam(rho=0.3), sgd)

for name, optimizer, num_steps in (("sgd", sgd, 600), ("sam", sam, 300)):
  params, opt_state, loss = train(optimizer, num_steps)
  gradients = num_steps + int(flatopt.extra_gradient_evaluations(opt_state))
  print(
    f"{name}: {gradients} gradients, training loss {loss:.3f},"
    f" test accuracy {accuracy(params, test_data):.1%}"
  )

# %% [markdown]
# SGD has begun to fit the wrong labels: it has the lower training loss and the lower test accuracy.
# To fit a wrong label, a network needs a sharp loss around it, and SAM avoids such params. One run
# on one toy problem proves nothing. [Evidence](../evidence/accuracy.md) has the comparison that
# this repository measured.
#
# ## What to read next
#
# The other tutorials show the same step in Flax and Equinox, and methods that are cheaper than SAM.
# The page on [closures](../closures.md) shows the step with dropout, batch normalisation and
# accumulated gradients.
