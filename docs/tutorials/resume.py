# %% [markdown]
# # Stop and resume, to the bit
#
# A job is stopped in the middle of training and started again. In the end it must have exactly the
# same params as a job that was never stopped. Two things often prevent this: random numbers, and
# weights that are not in the checkpoint. The optimizer on this page has both. RST draws random
# numbers, and Lookahead keeps slow weights. In flatopt both depend only on the optimizer's state,
# so it is enough to save the params and the state.

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
  # The batch depends only on the step, so the step is also the position in the data.
  x = jax.random.normal(jax.random.fold_in(jax.random.key(7), step), (32, 4))
  loss_fn = lambda p: jnp.mean((jnp.tanh(x @ p["kernel"]) @ p["out"] - x[:, 0] * x[:, 1]) ** 2)
  updates, opt_state = optimizer.update(
    jax.grad(loss_fn)(params), opt_state, params, grad_fn=jax.grad(loss_fn)
  )
  return optax.apply_updates(params, updates), opt_state


# %% [markdown]
# ## A job
#
# The job looks for the latest checkpoint, continues from there, and saves a checkpoint every ten
# steps. To restore, `StandardRestore` needs the structure of the state that `init` makes. Without
# it, the types of the optimizer's states are lost.


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
      state = manager.restore(first, args=ocp.args.StandardRestore(state))
    print(f"the job starts at step {first}")
    for step in range(first, 40):
      if step == stop_at:
        print(f"the job stops at step {step}")
        return None
      params, opt_state = train_step(state["params"], state["opt_state"], step)
      state = {"params": params, "opt_state": opt_state}
      if (step + 1) % 10 == 0:
        manager.save(step + 1, args=ocp.args.StandardSave(state))
  return state


# %% [markdown]
# ## Stop and resume
#
# The first job stops at step 23. Its last checkpoint is that of step 20, so the second job repeats
# the three steps that were lost. The third job trains without a stop.

# %%
stopped = Path(tempfile.mkdtemp())
job(stopped, stop_at=23)
resumed = job(stopped)
not_stopped = job(Path(tempfile.mkdtemp()))

# %%
is_equal = jax.tree.map(np.array_equal, resumed, not_stopped)
print("params and optimizer state are equal, bit by bit:", all(jax.tree.leaves(is_equal)))

# %% [markdown]
# [Checkpoint and resume](../checkpoints.md) explains what to put into a checkpoint, and what
# happens on other devices.
