"""Flax NNX: a small vision transformer with dropout, trained by IRE before AdamW.

``ire(rho=...)`` computes a second gradient on every step and the curvature on every tenth step. NNX
modules change in place, and so does the random counter of dropout.
``flatopt.nnx.value_and_grad`` changes it once per step, and its closure draws the same masks.

    python -m examples.nnx_vit          # or: make example NAME=nnx_vit
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import flatopt
import flatopt.nnx

BATCH_SIZE = 128
PATCH = 4


class Block(nnx.Module):
  def __init__(self, width, dropout_rate, rngs):
    self.attention_norm = nnx.LayerNorm(width, rngs=rngs)
    self.attention = nnx.MultiHeadAttention(4, width, decode=False, rngs=rngs)
    self.mlp_norm = nnx.LayerNorm(width, rngs=rngs)
    self.expand = nnx.Linear(width, 2 * width, rngs=rngs)
    self.contract = nnx.Linear(2 * width, width, rngs=rngs)
    self.dropout = nnx.Dropout(dropout_rate, rngs=rngs)

  def __call__(self, x):
    x = x + self.dropout(self.attention(self.attention_norm(x)))
    return x + self.dropout(self.contract(nnx.gelu(self.expand(self.mlp_norm(x)))))


class VisionTransformer(nnx.Module):
  def __init__(self, width=64, depth=2, dropout_rate=0.1, *, rngs):
    num_patches = (8 // PATCH) ** 2
    self.embed = nnx.Conv(1, width, (PATCH, PATCH), strides=PATCH, padding="VALID", rngs=rngs)
    self.position = nnx.Param(0.02 * jax.random.normal(rngs.params(), (num_patches, width)))
    self.blocks = nnx.List([Block(width, dropout_rate, rngs) for _ in range(depth)])
    self.norm = nnx.LayerNorm(width, rngs=rngs)
    self.head = nnx.Linear(width, 10, rngs=rngs)

  def __call__(self, images):
    x = self.embed(images)
    x = x.reshape(x.shape[0], -1, x.shape[-1]) + self.position[...]
    for block in self.blocks:
      x = block(x)
    return self.head(self.norm(x).mean(axis=1))


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


def loss_fn(model, images, labels):
  return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()


@nnx.jit
def train_step(model, optimizer, images, labels):
  loss, grads, grad_fn = flatopt.nnx.value_and_grad(loss_fn)(model, images, labels)
  optimizer.update(model, grads, grad_fn=grad_fn)
  return loss


@nnx.jit
def accuracy(model, images, labels):
  return jnp.mean(model(images).argmax(axis=-1) == labels)


def main(argv=None):
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--steps", type=int, default=200)
  args = parser.parse_args(argv)

  train_images, test_images, train_labels, test_labels = load_data()
  model = VisionTransformer(rngs=nnx.Rngs(0))
  tx = optax.chain(
    # This estimator costs one gradient. Hutchinson's, the default, costs two and compiles longer.
    flatopt.ire(rho=0.05, kappa=1.0, curvature=flatopt.curvature.empirical_fisher()),
    optax.clip_by_global_norm(1.0),
    # After ire, so that ire does not change the weight decay.
    optax.adamw(optax.cosine_decay_schedule(3e-3, args.steps), weight_decay=0.05),
  )
  optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

  stream = batches(train_images, train_labels, np.random.default_rng(0))
  for step in range(args.steps):
    loss = train_step(model, optimizer, *next(stream))
    if step % max(1, args.steps // 5) == 0 or step == args.steps - 1:
      print(f"step {step:4d}  loss {loss:.4f}")

  opt_state = nnx.as_pure(optimizer.opt_state)
  model = flatopt.nnx.eval_model(opt_state, model)
  model.eval()
  print(f"test accuracy {accuracy(model, test_images, test_labels):.4f}")
  extra = flatopt.extra_gradient_evaluations(opt_state)
  print(f"gradient evaluations: {args.steps} + {extra}")


if __name__ == "__main__":
  main()
