"""Sharded params: ``jit`` over a (data, model) mesh, with AdamW, IRE after it and Lookahead around.

Params are split over the model axis and batches over the data axis. The methods need no setting
for this: states, also the slow weights, get the shardings of the params. IRE estimates the
curvature from labels that are drawn from the model (Gauss-Newton-Bartlett). The script also runs
on one device. The second command uses eight virtual devices.

    python -m examples.sharded          # or: make example NAME=sharded
    XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m examples.sharded
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import flatopt

WIDTH = 256
BATCH_SIZE = 128
SPECS = {"up": P(None, "model"), "bias": P("model"), "down": P("model", None)}


def load_data():
  images, labels = load_digits(return_X_y=True)
  images, labels = images.astype(np.float32) / 16, labels.astype(np.int32)
  return train_test_split(images, labels, test_size=360, random_state=0)


def batches(images, labels, batch_size, rng):
  while True:
    order = rng.permutation(len(labels))
    for start in range(0, len(order) - batch_size + 1, batch_size):
      chosen = order[start : start + batch_size]
      yield images[chosen], labels[chosen]


def init_params(key):
  up_key, down_key = jax.random.split(key)
  init = jax.nn.initializers.lecun_normal()
  return {
    "up": init(up_key, (64, WIDTH)),
    "bias": jnp.zeros(WIDTH),
    "down": init(down_key, (WIDTH, 10)),
  }


def logits_fn(params, images):
  return jax.nn.gelu(images @ params["up"] + params["bias"]) @ params["down"]


def loss_fn(params, batch):
  images, labels = batch
  logits = logits_fn(params, images)
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@jax.jit
def accuracy(params, images, labels):
  return jnp.mean(logits_fn(params, images).argmax(axis=-1) == labels)


def make_train_step(optimizer):
  def train_step(params, opt_state, batch):
    sampled_grad_fn = flatopt.closures.sampled_label_grad_fn(logits_fn, batch[0])
    loss, grads = jax.value_and_grad(loss_fn)(params, batch)
    updates, opt_state = optimizer.update(grads, opt_state, params, sampled_grad_fn=sampled_grad_fn)
    return optax.apply_updates(params, updates), opt_state, loss

  return jax.jit(train_step, donate_argnums=(0, 1))


def main(argv=None):
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--steps", type=int, default=300)
  args = parser.parse_args(argv)

  num_devices = jax.device_count()
  model_size = 2 if num_devices % 2 == 0 else 1
  data_size = num_devices // model_size
  batch_size = BATCH_SIZE - BATCH_SIZE % data_size
  mesh = jax.make_mesh((data_size, model_size), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
  print(f"mesh {dict(mesh.shape)}")

  train_images, test_images, train_labels, test_labels = load_data()
  learning_rate = optax.warmup_cosine_decay_schedule(0.0, 3e-3, args.steps // 10, args.steps)
  gauss_newton = flatopt.curvature.gauss_newton_bartlett(batch_size)
  ire = flatopt.ire(kappa=1.0, curvature=gauss_newton, start_step=args.steps // 10)
  optimizer = flatopt.lookahead(optax.chain(optax.adamw(learning_rate, weight_decay=1e-2), ire))

  shardings = {name: NamedSharding(mesh, spec) for name, spec in SPECS.items()}
  params = jax.device_put(init_params(jax.random.key(0)), shardings)
  opt_state = optimizer.init(params)
  train_step = make_train_step(optimizer)

  stream = batches(train_images, train_labels, batch_size, np.random.default_rng(0))
  for step in range(args.steps):
    batch = jax.device_put(next(stream), NamedSharding(mesh, P("data")))
    params, opt_state, loss = train_step(params, opt_state, batch)
    # Virtual devices share the CPU's threads, and collectives of several queued steps can deadlock.
    loss.block_until_ready()
    if step % max(1, args.steps // 5) == 0 or step == args.steps - 1:
      print(f"step {step:4d}  loss {loss:.4f}")

  slow = flatopt.eval_params(opt_state, params)
  print("slow weights:", {name: str(leaf.sharding.spec) for name, leaf in slow.items()})
  print(f"test accuracy {accuracy(slow, test_images, test_labels):.4f}")
  extra = flatopt.extra_gradient_evaluations(opt_state)
  print(f"gradient evaluations: {args.steps} + {extra}")


if __name__ == "__main__":
  main()
