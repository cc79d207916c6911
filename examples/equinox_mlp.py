"""Equinox: an MLP trained by SALA around AdamW.

The gradients, the closure and the optimizer use only the floating arrays of the model. SALA keeps a
copy of them, the slow weights. Once the fast weights are close to the slow weights, it computes an
extra gradient on every fifth step.

    python -m examples.equinox_mlp      # or: make example NAME=equinox_mlp
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import flatopt
import flatopt.equinox

BATCH_SIZE = 128


def load_data():
  images, labels = load_digits(return_X_y=True)
  images, labels = images.astype(np.float32) / 16, labels.astype(np.int32)
  return train_test_split(images, labels, test_size=360, random_state=0)


def batches(images, labels, rng):
  while True:
    order = rng.permutation(len(labels))
    for start in range(0, len(order) - BATCH_SIZE + 1, BATCH_SIZE):
      chosen = order[start : start + BATCH_SIZE]
      yield images[chosen], labels[chosen]


def loss_fn(model, images, labels):
  logits = jax.vmap(model)(images)
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@eqx.filter_jit
def train_step(model, opt_state, optimizer, images, labels):
  params = eqx.filter(model, eqx.is_inexact_array)
  loss, grads, grad_fn = flatopt.equinox.value_and_grad(loss_fn)(model, images, labels)
  updates, opt_state = optimizer.update(grads, opt_state, params, grad_fn=grad_fn)
  return eqx.apply_updates(model, updates), opt_state, loss


@eqx.filter_jit
def accuracy(model, images, labels):
  return jnp.mean(jax.vmap(model)(images).argmax(axis=-1) == labels)


def main(argv=None):
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--steps", type=int, default=400)
  args = parser.parse_args(argv)

  train_images, test_images, train_labels, test_labels = load_data()
  model = eqx.nn.MLP(64, 10, 128, depth=2, activation=jax.nn.gelu, key=jax.random.key(0))
  learning_rate = optax.cosine_decay_schedule(3e-3, args.steps)
  optimizer = flatopt.sala(optax.adamw(learning_rate, weight_decay=1e-2), rho=0.2)
  opt_state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))

  stream = batches(train_images, train_labels, np.random.default_rng(0))
  for step in range(args.steps):
    model, opt_state, loss = train_step(model, opt_state, optimizer, *next(stream))
    if step % max(1, args.steps // 5) == 0 or step == args.steps - 1:
      print(f"step {step:4d}  loss {loss:.4f}")

  params, static = eqx.partition(model, eqx.is_inexact_array)
  slow_model = eqx.combine(flatopt.eval_params(opt_state, params), static)
  print(f"test accuracy {accuracy(slow_model, test_images, test_labels):.4f}")
  extra = flatopt.extra_gradient_evaluations(opt_state)
  print(f"gradient evaluations: {args.steps} + {extra}")


if __name__ == "__main__":
  main()
