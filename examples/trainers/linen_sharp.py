"""A whole Flax Linen trainer with SAM; ``linen_plain.py`` is the same trainer without flatopt.

BatchNorm, dropout, bfloat16, gradient accumulation, clipping, a learning-rate schedule, an average
of the params, checkpoints to resume from, TensorBoard and early stopping.

    python -m examples.trainers.linen_sharp     # or: make example NAME=trainers.linen_sharp
"""

import argparse
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tensorboardX import SummaryWriter

import flatopt
from flatopt.linen import TrainState

BATCH_SIZE = 128
NUM_MICROBATCHES = 4
EVALUATE_EVERY = 20
PATIENCE = 5  # evaluations without a better one, after which training stops
DECAY = 0.98  # of the average of the params


class Mlp(nn.Module):
  @nn.compact
  def __call__(self, images, train):
    x = nn.Dense(256, dtype=jnp.bfloat16)(images).astype(jnp.float32)
    x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
    x = nn.Dropout(0.2, deterministic=not train)(x)
    return nn.Dense(10, dtype=jnp.bfloat16)(x).astype(jnp.float32)


class State(TrainState):
  batch_stats: Any
  averaged: Any  # the average of the params


def load_data():
  images, labels = load_digits(return_X_y=True)
  images, labels = images.astype(np.float32) / 16, labels.astype(np.int32)
  train, rest = train_test_split(np.arange(len(labels)), test_size=600, random_state=0)
  return [(images[i], labels[i]) for i in (train, rest[:300], rest[300:])]


def batch_at(step, data):
  """The step alone gives the batch, so a resumed run goes on with the right one."""
  per_epoch = len(data[1]) // BATCH_SIZE
  epoch, i = divmod(step, per_epoch)
  order = np.random.default_rng(epoch).permutation(len(data[1]))
  chosen = order[i * BATCH_SIZE : (i + 1) * BATCH_SIZE]
  return data[0][chosen], data[1][chosen], np.arange(BATCH_SIZE)


def make_optimizer(num_steps):
  schedule = optax.warmup_cosine_decay_schedule(0.0, 3e-3, num_steps // 10, num_steps)
  return optax.chain(
    flatopt.sam(rho=0.05),
    optax.clip_by_global_norm(1.0),
    optax.adamw(schedule, weight_decay=0.05),
  )


@jax.jit
def train_step(state, batch):
  key = jax.random.fold_in(jax.random.key(1), state.step)

  def loss_fn(params, microbatch):
    images, labels, numbers = microbatch
    logits, changed = state.apply_fn(
      {"params": params, "batch_stats": state.batch_stats},
      images,
      train=True,
      rngs={"dropout": jax.random.fold_in(key, numbers[0])},  # another one in each microbatch
      mutable=["batch_stats"],
    )
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return loss, changed["batch_stats"]

  step_fn = flatopt.closures.micro_value_and_grad(loss_fn, NUM_MICROBATCHES, has_aux=True)
  (loss, stacked), grads, grad_fn = step_fn(state.params, batch)
  batch_stats = jax.tree.map(lambda x: jnp.mean(x, axis=0), stacked)
  state = state.apply_gradients(grads=grads, batch_stats=batch_stats, grad_fn=grad_fn)
  average = lambda a, w: DECAY * a + (1 - DECAY) * w
  state = state.replace(averaged=jax.tree.map(average, state.averaged, state.params))
  return state, {"loss": loss, "gradient norm": optax.tree.norm(grads)}


@jax.jit
def accuracy(state, images, labels):
  variables = {"params": state.averaged, "batch_stats": state.batch_stats}
  return jnp.mean(state.apply_fn(variables, images, train=False).argmax(axis=-1) == labels)


def main(argv=None):
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--steps", type=int, default=300)
  parser.add_argument("--run-dir", type=Path, default=Path("runs", Path(__file__).stem))
  args = parser.parse_args(argv)

  train, validation, test = load_data()
  model = Mlp()
  variables = model.init(jax.random.key(0), train[0][:1], train=False)
  averaged = jax.tree.map(jnp.copy, variables["params"])
  state = State.create(
    apply_fn=model.apply, tx=make_optimizer(args.steps), averaged=averaged, **variables
  )
  progress = {"best": 0.0, "worse": 0}  # the best accuracy, and the evaluations since

  checkpoints = ocp.CheckpointManager(
    args.run_dir.resolve() / "checkpoints", options=ocp.CheckpointManagerOptions(max_to_keep=2)
  )
  first = checkpoints.latest_step() or 0
  if first:
    restore = {"state": ocp.args.StandardRestore(state), "progress": ocp.args.JsonRestore()}
    restored = checkpoints.restore(first, args=ocp.args.Composite(**restore))
    state, progress = restored["state"], restored["progress"]

  with checkpoints, SummaryWriter(str(args.run_dir)) as writer:
    for step in range(first, args.steps):
      if progress["worse"] >= PATIENCE:
        break
      state, logs = train_step(state, batch_at(step, train))
      if (step + 1) % EVALUATE_EVERY and step + 1 < args.steps:
        continue
      logs |= flatopt.metrics(state.opt_state)
      logs["validation accuracy"] = accuracy(state, *validation)
      for name, value in logs.items():  # wandb.log(logs, step=step + 1) takes the same dict
        writer.add_scalar(name, float(value), step + 1)
      print(f"step {step + 1:4d}  " + "  ".join(f"{n} {float(x):.4f}" for n, x in logs.items()))
      better = float(logs["validation accuracy"]) > progress["best"]
      progress["best"] = max(progress["best"], float(logs["validation accuracy"]))
      progress["worse"] = 0 if better else progress["worse"] + 1
      save = {"state": ocp.args.StandardSave(state), "progress": ocp.args.JsonSave(progress)}
      checkpoints.save(step + 1, args=ocp.args.Composite(**save))
  print(f"test accuracy {accuracy(state, *test):.4f}")


if __name__ == "__main__":
  main()
