"""A whole Flax NNX trainer without flatopt; ``nnx_sharp.py`` is the same trainer with SAM.

BatchNorm, dropout, bfloat16, gradient accumulation, clipping, a learning-rate schedule, an average
of the params, checkpoints to resume from, TensorBoard and early stopping.

    python -m examples.trainers.nnx_plain     # or: make example NAME=trainers.nnx_plain
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tensorboardX import SummaryWriter

BATCH_SIZE = 128
NUM_MICROBATCHES = 4
EVALUATE_EVERY = 20
PATIENCE = 5  # evaluations without a better one, after which training stops
DECAY = 0.98  # of the average of the params


class Mlp(nnx.Module):
  def __init__(self, rngs):
    self.hidden = nnx.Linear(64, 256, dtype=jnp.bfloat16, rngs=rngs)
    self.norm = nnx.BatchNorm(256, momentum=0.9, rngs=rngs)
    self.dropout = nnx.Dropout(0.2, rngs=rngs)
    self.out = nnx.Linear(256, 10, dtype=jnp.bfloat16, rngs=rngs)

  def __call__(self, images):
    x = self.norm(self.hidden(images).astype(jnp.float32))
    return self.out(self.dropout(nnx.relu(x))).astype(jnp.float32)


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
  return data[0][chosen], data[1][chosen]


def make_optimizer(num_steps):
  schedule = optax.warmup_cosine_decay_schedule(0.0, 3e-3, num_steps // 10, num_steps)
  return optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.adamw(schedule, weight_decay=0.05),
  )


def loss_fn(model, batch):
  images, labels = batch
  return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()


@nnx.jit
def train_step(model, optimizer, averaged, batch):
  losses, total = [], None
  for i in range(NUM_MICROBATCHES):
    microbatch = jax.tree.map(lambda x, i=i: x[i::NUM_MICROBATCHES], batch)
    loss, grads = nnx.value_and_grad(loss_fn)(model, microbatch)
    losses.append(loss)
    total = grads if total is None else jax.tree.map(jnp.add, total, grads)
  grads = jax.tree.map(lambda x: x / NUM_MICROBATCHES, total)
  optimizer.update(model, grads)
  average = lambda a, w: DECAY * a + (1 - DECAY) * w
  params, was = nnx.state(model, nnx.Param), nnx.state(averaged, nnx.Param)
  nnx.update(averaged, jax.tree.map(average, was, params), nnx.state(model, nnx.BatchStat))
  return {"loss": jnp.mean(jnp.stack(losses)), "gradient norm": optax.tree.norm(grads)}


@nnx.jit
def accuracy(model, images, labels):
  model = nnx.clone(model)  # the trained one stays in training mode
  model.eval()
  return jnp.mean(model(images).argmax(axis=-1) == labels)


def main(argv=None):
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--steps", type=int, default=300)
  parser.add_argument("--run-dir", type=Path, default=Path("runs", Path(__file__).stem))
  args = parser.parse_args(argv)

  train, validation, test = load_data()
  model = Mlp(nnx.Rngs(0))
  optimizer = nnx.Optimizer(model, make_optimizer(args.steps), wrt=nnx.Param)
  averaged = nnx.clone(model)
  objects = model, optimizer, averaged
  progress = {"best": 0.0, "worse": 0}  # the best accuracy, and the evaluations since

  checkpoints = ocp.CheckpointManager(
    args.run_dir.resolve() / "checkpoints", options=ocp.CheckpointManagerOptions(max_to_keep=2)
  )
  first = checkpoints.latest_step() or 0
  if first:
    restore = {
      "state": ocp.args.StandardRestore(nnx.state(objects)),
      "progress": ocp.args.JsonRestore(),
    }
    restored = checkpoints.restore(first, args=ocp.args.Composite(**restore))
    nnx.update(objects, restored["state"])
    progress = restored["progress"]

  with checkpoints, SummaryWriter(str(args.run_dir)) as writer:
    for step in range(first, args.steps):
      if progress["worse"] >= PATIENCE:
        break
      logs = train_step(*objects, batch_at(step, train))
      if (step + 1) % EVALUATE_EVERY and step + 1 < args.steps:
        continue
      logs["validation accuracy"] = accuracy(averaged, *validation)
      for name, value in logs.items():  # wandb.log(logs, step=step + 1) takes the same dict
        writer.add_scalar(name, float(value), step + 1)
      print(f"step {step + 1:4d}  " + "  ".join(f"{n} {float(x):.4f}" for n, x in logs.items()))
      better = float(logs["validation accuracy"]) > progress["best"]
      progress["best"] = max(progress["best"], float(logs["validation accuracy"]))
      progress["worse"] = 0 if better else progress["worse"] + 1
      save = {
        "state": ocp.args.StandardSave(nnx.state(objects)),
        "progress": ocp.args.JsonSave(progress),
      }
      checkpoints.save(step + 1, args=ocp.args.Composite(**save))
  print(f"test accuracy {accuracy(averaged, *test):.4f}")


if __name__ == "__main__":
  main()
