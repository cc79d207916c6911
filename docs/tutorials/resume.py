# %% [markdown]
# # Stop and resume, to the bit
#
# A training job is stopped in the middle and started again, and ends with exactly the params of a job that was not.
# The method here draws random numbers and keeps slow weights, which are the two things that usually break this.

# %%
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp

import flatopt

optimizer = flatopt.lookahead(
  optax.chain(flatopt.rst(flatopt.sam(0.05), probability=0.5), optax.adamw(1e-2))
)


@jax.jit
def train_step(params, opt_state, step):
  # The batch depends on the step alone, so that the position in the data is the step.
  x = jax.random.normal(jax.random.fold_in(jax.random.key(7), step), (32, 4))
  loss_fn = lambda p: jnp.mean((jnp.tanh(x @ p["kernel"]) @ p["out"] - x[:, 0] * x[:, 1]) ** 2)
  updates, opt_state = optimizer.update(
    jax.grad(loss_fn)(params), opt_state, params, grad_fn=jax.grad(loss_fn)
  )
  return optax.apply_updates(params, updates), opt_state


# %% [markdown]
# ## A job
#
# It looks for the latest checkpoint, goes on from there, and saves every ten steps. `StandardRestore` gets the
# structure that `init` makes: without it the types of the optimizer's states would be lost.


# %%
def job(folder, stop_at=None):
  keys = jax.random.split(jax.random.key(0))
  params = {"kernel": jax.random.normal(keys[0], (4, 8)), "out": jax.random.normal(keys[1], (8,))}
  state = {"params": params, "opt_state": optimizer.init(params)}
  with ocp.CheckpointManager(
    folder, options=ocp.CheckpointManagerOptions(max_to_keep=2)
  ) as manager:
    first = manager.latest_step() or 0
    if first:
      state = manager.restore(first, args=ocp.args.StandardRestore(jax.eval_shape(lambda: state)))
    print(f"starts at step {first}")
    for step in range(first, 40):
      if step == stop_at:
        print(f"stopped at step {step}")
        return None
      params, opt_state = train_step(state["params"], state["opt_state"], step)
      state = {"params": params, "opt_state": opt_state}
      if (step + 1) % 10 == 0:
        manager.save(step + 1, args=ocp.args.StandardSave(state))
  return state


# %% [markdown]
# ## Twice the same
#
# Stopped at step 23, the job has its checkpoint of step 20, and repeats the three steps that were lost.

# %%
stopped = Path(tempfile.mkdtemp())
job(stopped, stop_at=23)
resumed = job(stopped)
straight = job(Path(tempfile.mkdtemp()))

# %%
same = jax.tree.map(lambda a, b: np.array_equal(a, b), resumed, straight)
print("the same bits, params and optimizer state:", all(jax.tree.leaves(same)))

# %% [markdown]
# [Checkpoint and resume](../checkpoints.md) says what belongs into a checkpoint and what happens on other devices.
