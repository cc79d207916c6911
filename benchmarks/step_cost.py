"""What a step of each method costs: flops, state bytes, and wall-clock against the base.

    python -m benchmarks.step_cost

Flops come from the compiled program, which is free of timing noise. Times are medians of
interleaved runs of ``UPDATES`` steps each, so that a slow spell of the machine falls on all.
"""

import itertools
import math
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

import flatopt

WIDTHS = (512, 1024, 1024, 512, 10)  # about 2.1 million params
BATCH_SIZE = 128
UPDATES = 20


def base() -> optax.GradientTransformationExtraArgs:
  return optax.with_extra_args_support(optax.sgd(0.01, momentum=0.9))


def optimizers() -> dict[str, optax.GradientTransformationExtraArgs]:
  gnb = flatopt.curvature.gauss_newton_bartlett()
  return {
    "base": base(),
    "sam": optax.chain(flatopt.sam(), base()),
    "asam": optax.chain(flatopt.asam(), base()),
    "rst(.5)": optax.chain(flatopt.rst(flatopt.sam(), every_other_step), base()),
    "g_rst(.5)": optax.chain(flatopt.g_rst(flatopt.sam(), every_other_step), base()),
    "ire(K=10)": optax.chain(base(), flatopt.ire(curvature=gnb)),
    "ire(rho)": optax.chain(flatopt.ire(rho=0.05, curvature=gnb), base()),
    "lookahead": flatopt.lookahead(base()),
    "sala(5), stage 2": flatopt.sala(base(), rho=1e3),
    "lookbehind(5)": flatopt.lookbehind(
      base(), ascent_steps=5, interpolation="adaptive", unroll=True
    ),
  }


def every_other_step(count: jax.Array) -> jax.Array:
  """Heads on exactly half of the steps: 20 tosses of a fair coin have 8 to 13."""
  return count % 2


def make_params() -> list[dict[str, jax.Array]]:
  rng = np.random.default_rng(0)
  return [
    {
      "kernel": jnp.asarray(rng.normal(size=(m, n)) / math.sqrt(m), jnp.float32),
      "bias": jnp.zeros(n),
    }
    for m, n in itertools.pairwise(WIDTHS)
  ]


def loss_fn(params, inputs, labels):
  for layer in params[:-1]:
    inputs = jax.nn.relu(inputs @ layer["kernel"] + layer["bias"])
  logits = inputs @ params[-1]["kernel"] + params[-1]["bias"]
  return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def compile_step(optimizer: optax.GradientTransformationExtraArgs) -> jax.stages.Compiled:
  """``(params, state, inputs, labels) -> (params, state)``, compiled, params and state donated."""

  def step(params, state, inputs, labels):
    grad_fn = lambda p: jax.grad(loss_fn)(p, inputs, labels)
    sampled_grad_fn = lambda p, key: jax.grad(loss_fn)(
      p, inputs, jax.random.randint(key, labels.shape, 0, WIDTHS[-1])
    )
    updates, state = optimizer.update(
      grad_fn(params), state, params, grad_fn=grad_fn, sampled_grad_fn=sampled_grad_fn
    )
    return optax.apply_updates(params, updates), state

  params = make_params()
  return (
    jax.jit(step, donate_argnums=(0, 1))
    .lower(params, optimizer.init(params), *make_batch())
    .compile()
  )


def make_batch() -> tuple[jax.Array, jax.Array]:
  rng = np.random.default_rng(1)
  inputs = jnp.asarray(rng.normal(size=(BATCH_SIZE, WIDTHS[0])), jnp.float32)
  return inputs, jnp.asarray(rng.integers(0, WIDTHS[-1], BATCH_SIZE), jnp.int32)


def flops(step: jax.stages.Compiled) -> float:
  return step.cost_analysis()["flops"]


def state_bytes(optimizer: optax.GradientTransformation) -> int:
  """Bytes of the state beyond the base optimizer's."""
  size = lambda o: sum(x.nbytes for x in jax.tree.leaves(o.init(make_params())))
  return size(optimizer) - size(base())


def relative_times(names: list[str], repeats: int = 11) -> dict[str, float]:
  """Median over ``repeats`` of each one's time for ``UPDATES`` steps over the base's next to it."""
  runs = {name: _runner(optimizers()[name]) for name in ["base", *names]}
  seconds: dict[str, list[float]] = {name: [] for name in runs}
  for _ in range(repeats):
    for name, run in runs.items():
      start = time.perf_counter()
      run()
      seconds[name].append(time.perf_counter() - start)
  ratios = lambda name: [s / b for s, b in zip(seconds[name], seconds["base"], strict=True)]
  return {name: statistics.median(ratios(name)) for name in names}


def _runner(optimizer: optax.GradientTransformationExtraArgs) -> Callable[[], None]:
  step = compile_step(optimizer)
  carry = make_params(), optimizer.init(make_params())
  batch = make_batch()

  def run():
    nonlocal carry
    for _ in range(UPDATES):
      carry = step(*carry, *batch)
    jax.block_until_ready(carry)

  for _ in range(2):  # past SALA's first stage, and past any lazy set-up
    run()
  return run


def main() -> None:
  num_params = sum(x.size for x in jax.tree.leaves(make_params()))
  methods = optimizers()
  times = relative_times([name for name in methods if name != "base"])
  base_flops = flops(compile_step(base()))
  print(f"{num_params:,} params, batch {BATCH_SIZE}, jax {jax.__version__}, {jax.devices()[0]}")
  print(f"{'method':<18}{'flops / base':>14}{'time / base':>14}{'state bytes a param':>22}")
  for name, ratio in times.items():
    relative_flops = flops(compile_step(methods[name])) / base_flops
    per_param = state_bytes(methods[name]) / num_params
    print(f"{name:<18}{relative_flops:>14.3f}{ratio:>14.2f}{per_param:>22.3f}")


if __name__ == "__main__":
  main()
