"""Data-parallel training: ``shard_map`` over all devices, and Lookbehind with m-sharpness.

Each device gets a part of the batch and ascends along its own gradient. The base optimizer gets the
mean over the devices, so params and states stay equal on all of them. The script also runs on one
device. The second command uses eight virtual devices.

    python -m examples.data_parallel    # or: make example NAME=data_parallel
    XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m examples.data_parallel
"""

import argparse
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import flatopt

WIDTHS = (64, 128, 128, 10)
BATCH_SIZE = 128
ASCENT_STEPS = 2


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
  shapes = list(itertools.pairwise(WIDTHS))
  init = jax.nn.initializers.lecun_normal()
  return [
    {"kernel": init(layer_key, shape), "bias": jnp.zeros(shape[1])}
    for layer_key, shape in zip(jax.random.split(key, len(shapes)), shapes, strict=True)
  ]


def apply(params, images):
  *hidden, last = params
  for layer in hidden:
    images = jax.nn.gelu(images @ layer["kernel"] + layer["bias"])
  return images @ last["kernel"] + last["bias"]


def loss_fn(params, batch):
  images, labels = batch
  logits = apply(params, images)
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@jax.jit
def accuracy(params, images, labels):
  return jnp.mean(apply(params, images).argmax(axis=-1) == labels)


def make_train_step(optimizer, mesh):
  def train_step(params, opt_state, batch):
    # shard_map would sum the gradient over the devices if the params did not vary.
    local = jax.lax.pcast(params, "data", to="varying")
    loss, grads, grad_fn = flatopt.closures.value_and_grad(loss_fn)(local, batch)
    updates, opt_state = optimizer.update(grads, opt_state, params, grad_fn=grad_fn)
    return optax.apply_updates(params, updates), opt_state, jax.lax.pmean(loss, "data")

  replicated, split = PartitionSpec(), PartitionSpec("data")
  in_specs = (replicated, replicated, split)
  return jax.jit(jax.shard_map(train_step, mesh=mesh, in_specs=in_specs, out_specs=replicated))


def main(argv=None):
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--steps", type=int, default=300)
  args = parser.parse_args(argv)

  num_devices = jax.device_count()
  batch_size = BATCH_SIZE - BATCH_SIZE % num_devices
  print(f"{num_devices} devices, {batch_size // num_devices} examples on each")
  mesh = jax.make_mesh((num_devices,), ("data",), axis_types=(AxisType.Auto,))

  train_images, test_images, train_labels, test_labels = load_data()
  # The base optimizer takes ASCENT_STEPS steps per update, so its schedule is that much longer.
  learning_rate = optax.cosine_decay_schedule(0.1, ASCENT_STEPS * args.steps)
  optimizer = flatopt.lookbehind(
    optax.sgd(learning_rate, momentum=0.9), ascent_steps=ASCENT_STEPS, rho=0.05, axis_name="data"
  )
  params = jax.device_put(init_params(jax.random.key(0)), NamedSharding(mesh, PartitionSpec()))
  opt_state = optimizer.init(params)
  train_step = make_train_step(optimizer, mesh)

  stream = batches(train_images, train_labels, batch_size, np.random.default_rng(0))
  for step in range(args.steps):
    batch = jax.device_put(next(stream), NamedSharding(mesh, PartitionSpec("data")))
    params, opt_state, loss = train_step(params, opt_state, batch)
    # Virtual devices share the CPU's threads, and collectives of several queued steps can deadlock.
    loss.block_until_ready()
    if step % max(1, args.steps // 5) == 0 or step == args.steps - 1:
      print(f"step {step:4d}  loss {loss:.4f}")

  params = flatopt.eval_params(opt_state, params)
  print(f"test accuracy {accuracy(params, test_images, test_labels):.4f}")
  extra = flatopt.extra_gradient_evaluations(opt_state)
  print(f"gradient evaluations: {args.steps} + {extra}")


if __name__ == "__main__":
  main()
