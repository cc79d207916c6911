"""Measures the error of the largest eigenvalue, and the cost of a product, for ten million params.

    python -m benchmarks.sharpness

The model is an MLP with four layers. The reference is the value after many products. It takes some
minutes.
"""

import functools
import itertools
import math
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flatopt import sharpness

WIDTHS = (1024, 2048, 2048, 2048, 10)  # 10.5 million params
BATCH_SIZE = 256
NUM_MATVECS = (4, 8, 16, 32)
REFERENCE = 64


def make_params() -> list[jax.Array]:
  rng = np.random.default_rng(0)
  return [
    jnp.asarray(rng.normal(size=s) / math.sqrt(s[0]), jnp.float32)
    for s in itertools.pairwise(WIDTHS)
  ]


def make_batch() -> tuple[jax.Array, jax.Array]:
  rng = np.random.default_rng(1)
  inputs = jnp.asarray(rng.normal(size=(BATCH_SIZE, WIDTHS[0])), jnp.float32)
  return inputs, jnp.asarray(rng.integers(0, WIDTHS[-1], BATCH_SIZE), jnp.int32)


def logits_fn(params) -> jax.Array:
  outputs, _ = make_batch()
  for kernel in params[:-1]:
    outputs = jax.nn.gelu(outputs @ kernel)
  return outputs @ params[-1]


def cross_entropy(logits) -> jax.Array:
  _, labels = make_batch()
  return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def loss_fn(params) -> jax.Array:
  return cross_entropy(logits_fn(params))


OPERATORS = {
  "Hessian": sharpness.hessian(jax.grad(loss_fn)),
  "Hessian, reverse-reverse": sharpness.hessian(jax.grad(loss_fn), mode="reverse-reverse"),
  "Gauss-Newton": sharpness.gauss_newton(logits_fn, cross_entropy),
  "Gauss-Newton, reverse-reverse": sharpness.gauss_newton(
    logits_fn, cross_entropy, mode="reverse-reverse"
  ),
}


def flops(fn, *args) -> float:
  return jax.jit(fn).lower(*args).compile().cost_analysis()["flops"]


def product_over_gradient(operator) -> float:
  """Returns the flops of a product with a vector, divided by those of a gradient."""
  params = make_params()
  product = functools.partial(sharpness.hessian_vector_product, operator)
  return flops(product, params, params) / flops(jax.grad(loss_fn), params)


def top_eigenvalue(num_matvecs: int, basis_size: int | None = None) -> tuple[float, float]:
  """Returns the value, and the seconds it takes without compilation."""
  measure = jax.jit(
    lambda params: sharpness.top_eigenvalues(
      jax.grad(loss_fn), params, num_matvecs=num_matvecs, basis_size=basis_size, key=0
    )[0][0]
  )
  compiled = measure.lower(make_params()).compile()
  start = time.perf_counter()
  value = float(compiled(make_params()))
  return value, time.perf_counter() - start


def main() -> None:
  size = sum(x.size for x in make_params())
  print(f"{size:,} params, jax {jax.__version__}, {jax.devices()[0]}")
  for name, operator in OPERATORS.items():
    print(f"flops of a product / of a gradient: {product_over_gradient(operator):.2f}, {name}")
  reference, _ = top_eigenvalue(REFERENCE, basis_size=16)
  print(f"after {REFERENCE} products: {reference:.6g}")
  for num_matvecs in NUM_MATVECS:
    value, seconds = top_eigenvalue(num_matvecs)
    print(f"{num_matvecs:3d} products: error {abs(value / reference - 1):.2e}, {seconds:.1f} s")


if __name__ == "__main__":
  main()
