"""Plain JAX and optax: an MLP, with one method before the base optimizer and one around it.

RST takes ASAM's gradient on half of the steps, chosen at random, so a step costs 1.5 gradients on
average. Lookahead keeps slow weights, and the script evaluates these.

    python -m examples.plain_jax        # or: make example NAME=plain_jax
"""

import argparse
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import flatopt

WIDTHS = (64, 128, 128, 10)
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


def make_train_step(optimizer):
  @jax.jit
  def train_step(params, opt_state, batch):
    loss, grads, grad_fn = flatopt.closures.value_and_grad(loss_fn)(params, batch)
    updates, opt_state = optimizer.update(grads, opt_state, params, grad_fn=grad_fn)
    return optax.apply_updates(params, updates), opt_state, loss

  return train_step


def main(argv=None):
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--steps", type=int, default=400)
  args = parser.parse_args(argv)

  train_images, test_images, train_labels, test_labels = load_data()
  optimizer = flatopt.lookahead(
    optax.chain(
      flatopt.rst(flatopt.asam(0.5), probability=0.5),
      optax.clip_by_global_norm(1.0),
      optax.sgd(optax.cosine_decay_schedule(0.1, args.steps), momentum=0.9),
    )
  )
  params = init_params(jax.random.key(0))
  opt_state = optimizer.init(params)
  train_step = make_train_step(optimizer)

  stream = batches(train_images, train_labels, np.random.default_rng(0))
  for step in range(args.steps):
    params, opt_state, loss = train_step(params, opt_state, next(stream))
    if step % max(1, args.steps // 5) == 0 or step == args.steps - 1:
      print(f"step {step:4d}  loss {loss:.4f}")

  slow = flatopt.eval_params(opt_state, params)
  extra = flatopt.extra_gradient_evaluations(opt_state)
  print(f"test accuracy {accuracy(slow, test_images, test_labels):.4f}")
  print(f"gradient evaluations: {args.steps} + {extra}")


if __name__ == "__main__":
  main()
