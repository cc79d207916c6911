# %% [markdown]
# # A language model with IRE
#
# IRE is a method that comes *after* the base optimizer. It makes the steps of AdamW longer along
# flat coordinates. To find out which coordinates are flat, it estimates the diagonal of the
# Gauss-Newton matrix. This estimate needs a closure of another kind: the gradient for labels that
# are drawn from the model's own prediction.
# [`sampled_label_grad_fn`](../reference/closures.md#flatopt.closures.sampled_label_grad_fn) makes
# this closure.
#
# The text is the source code of Python's `argparse`, one byte per token. The model is a small
# recurrent network, so that this page runs in seconds.

# %%
import argparse
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax

import flatopt

corpus = np.frombuffer(inspect.getsource(argparse).encode(), np.uint8)
vocabulary, tokens = np.unique(corpus, return_inverse=True)
print(f"{len(tokens)} bytes with {len(vocabulary)} different values")


def batch_at(step, size=16, length=32):
  starts = np.random.default_rng(step).integers(len(tokens) - length - 1, size=size)
  rows = np.stack([tokens[s : s + length + 1] for s in starts])
  return jnp.asarray(rows[:, :-1]), jnp.asarray(rows[:, 1:])


# %% [markdown]
# ## The model


# %%
WIDTH = 64


def init_params(key):
  keys = jax.random.split(key, 4)
  normal = lambda key, *shape: jax.random.normal(key, shape) * shape[0] ** -0.5
  return {
    "embed": jax.random.normal(keys[0], (len(vocabulary), WIDTH)),
    "gates": normal(keys[1], 2 * WIDTH, WIDTH),
    "state": normal(keys[2], 2 * WIDTH, WIDTH),
    "out": normal(keys[3], WIDTH, len(vocabulary)),
  }


def logits_fn(params, inputs):
  def cell(h, x):
    both = jnp.concatenate([h, x], axis=-1)
    gate = jax.nn.sigmoid(both @ params["gates"])
    h = gate * h + (1 - gate) * jnp.tanh(both @ params["state"])
    return h, h

  x = params["embed"][inputs].swapaxes(0, 1)
  _, h = jax.lax.scan(cell, jnp.zeros(x.shape[1:]), x)
  return h.swapaxes(0, 1) @ params["out"]


def loss_fn(params, inputs, labels):
  logits = logits_fn(params, inputs)
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


# %% [markdown]
# ## The step
#
# There are two changes to a usual training step: `sampled_grad_fn` is passed to `update`, and IRE
# comes after AdamW in the chain. IRE begins at the end of the warm-up. Its estimator,
# Gauss-Newton-Bartlett, costs one gradient on every tenth step.


# %%
def train(*after_adamw, num_steps=100, warm_up=10, learning_rate=1e-2):
  schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, warm_up, num_steps)
  adamw = optax.adamw(schedule, b2=0.95, weight_decay=0.1)
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), adamw, *after_adamw)

  @jax.jit
  def train_step(params, opt_state, inputs, labels):
    loss, grads = jax.value_and_grad(loss_fn)(params, inputs, labels)
    sampled_grad_fn = flatopt.closures.sampled_label_grad_fn(logits_fn, inputs)
    updates, opt_state = optimizer.update(grads, opt_state, params, sampled_grad_fn=sampled_grad_fn)
    return optax.apply_updates(params, updates), opt_state, loss

  params = init_params(jax.random.key(0))
  opt_state, losses = optimizer.init(params), []
  for step in range(num_steps):
    params, opt_state, loss = train_step(params, opt_state, *batch_at(step))
    losses.append(float(loss))
  return np.mean(losses[-10:]), opt_state


ire = flatopt.ire(
  kappa=3.0,
  flat_fraction=0.6,
  curvature=flatopt.curvature.gauss_newton_bartlett(),
  start_step=10,
)
loss, _ = train()
print(f"AdamW:                          loss {loss:.3f}")
loss, opt_state = train(ire)
print(f"AdamW + IRE, 9 gradients more:  loss {loss:.3f}")
loss, _ = train(num_steps=109)
print(f"AdamW, 9 steps more:            loss {loss:.3f}")
loss, _ = train(learning_rate=2e-2)
print(f"AdamW, twice the learning rate: loss {loss:.3f}")

# %% [markdown]
# The last two lines are controls. IRE makes some steps longer and pays for nine more gradients, so
# it has to beat AdamW with longer steps, and AdamW with as many gradients. Here twice the learning
# rate helps more than IRE does: this learning rate was not tuned. One run with one seed proves
# nothing either way. Before you use IRE, tune AdamW's learning rate, then compare at equal
# gradients over several seeds.

# %% [markdown]
# ## What IRE reports
#
# `flatopt.metrics` returns what the methods report about themselves. `extra_gradient_evaluations`
# counts their cost.

# %%
for name, value in flatopt.metrics(opt_state).items():
  print(f"{name}: {value:.4g}")
print(f"{flatopt.extra_gradient_evaluations(opt_state)} extra gradients in 100 steps")

# %% [markdown]
# Watch `flat_share`, the share of coordinates that count as flat. It should be close to
# `flat_fraction`. If it is much larger, many coordinates have exactly the same curvature, mostly
# zero: for example the embeddings of tokens that are not in the batch. The [page about
# IRE](../methods/ire.md) has the settings of the paper.
