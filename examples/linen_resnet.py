"""Flax Linen: a small ResNet with BatchNorm, trained by SAM.

The clean pass updates BatchNorm's statistics once per step, and the closure drops its own.
``flatopt.linen.TrainState`` passes the closure on to the optimizer.

    python -m examples.linen_resnet     # or: make example NAME=linen_resnet
"""

import argparse
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import flatopt
import flatopt.linen

BATCH_SIZE = 128


class Block(nn.Module):
  features: int
  strides: int = 1

  @nn.compact
  def __call__(self, x, train):
    norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
    conv = partial(nn.Conv, kernel_size=(3, 3), use_bias=False)
    y = nn.relu(norm()(conv(self.features, strides=self.strides)(x)))
    # With scales of 0, each block is the identity at the start.
    y = norm(scale_init=nn.initializers.zeros)(conv(self.features)(y))
    if x.shape != y.shape:
      x = norm()(conv(self.features, kernel_size=(1, 1), strides=self.strides)(x))
    return nn.relu(x + y)


class ResNet(nn.Module):
  features: tuple[int, ...] = (16, 32)

  @nn.compact
  def __call__(self, x, train):
    x = nn.Conv(self.features[0], (3, 3), use_bias=False)(x)
    x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
    for i, features in enumerate(self.features):
      x = Block(features, strides=1 if i == 0 else 2)(x, train)
    return nn.Dense(10)(x.mean(axis=(1, 2)))


class TrainState(flatopt.linen.TrainState):
  batch_stats: Any


def load_data():
  images, labels = load_digits(return_X_y=True)
  images = images.reshape(-1, 8, 8, 1).astype(np.float32) / 16
  return train_test_split(images, labels.astype(np.int32), test_size=360, random_state=0)


def batches(images, labels, rng):
  while True:
    order = rng.permutation(len(labels))
    for start in range(0, len(order) - BATCH_SIZE + 1, BATCH_SIZE):
      chosen = order[start : start + BATCH_SIZE]
      yield images[chosen], labels[chosen]


@jax.jit
def train_step(state, images, labels):
  def loss_fn(params):
    variables = {"params": params, "batch_stats": state.batch_stats}
    logits, changed = state.apply_fn(variables, images, train=True, mutable=["batch_stats"])
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return loss, changed["batch_stats"]

  step_fn = flatopt.closures.value_and_grad(loss_fn, has_aux=True)
  (loss, batch_stats), grads, grad_fn = step_fn(state.params)
  return state.apply_gradients(grads=grads, batch_stats=batch_stats, grad_fn=grad_fn), loss


@jax.jit
def accuracy(state, images, labels):
  params = flatopt.eval_params(state.opt_state, state.params)
  variables = {"params": params, "batch_stats": state.batch_stats}
  return jnp.mean(state.apply_fn(variables, images, train=False).argmax(axis=-1) == labels)


def main(argv=None):
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--steps", type=int, default=150)
  args = parser.parse_args(argv)

  train_images, test_images, train_labels, test_labels = load_data()
  model = ResNet()
  tx = optax.chain(
    flatopt.sam(rho=0.05),
    optax.add_decayed_weights(5e-4),
    optax.sgd(optax.cosine_decay_schedule(0.1, args.steps), momentum=0.9, nesterov=True),
  )
  variables = model.init(jax.random.key(0), train_images[:1], train=False)
  state = TrainState.create(apply_fn=model.apply, tx=tx, **variables)

  stream = batches(train_images, train_labels, np.random.default_rng(0))
  for step in range(args.steps):
    state, loss = train_step(state, *next(stream))
    if step % max(1, args.steps // 5) == 0 or step == args.steps - 1:
      print(f"step {step:4d}  loss {loss:.4f}")

  print(f"test accuracy {accuracy(state, test_images, test_labels):.4f}")
  extra = flatopt.extra_gradient_evaluations(state.opt_state)
  print(f"gradient evaluations: {args.steps} + {extra}")


if __name__ == "__main__":
  main()
