"""What a step costs: flops and bytes of the compiled program; times on a quiet machine."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import flatopt
from benchmarks import step_cost

pytestmark = pytest.mark.usefixtures("full_optimization")

NUM_PARAMS = sum(x.size for x in jax.tree.leaves(step_cost.make_params()))
A_FEW_SCALARS = 64


@pytest.mark.parametrize(("name", "limit"), [("sam", 2.02), ("lookbehind(5)", 6.1)])
def test_flops_against_the_base_step(name, limit):
  base, method = (
    step_cost.flops(step_cost.compile_step(optimizer))
    for optimizer in (step_cost.base(), step_cost.optimizers()[name])
  )
  assert limit - 0.12 < method / base <= limit


@pytest.mark.parametrize(
  ("name", "limit"),
  [
    ("sam", A_FEW_SCALARS),
    ("asam", A_FEW_SCALARS),
    ("rst(.5)", A_FEW_SCALARS),
    ("g_rst(.5)", A_FEW_SCALARS),
    ("lookbehind(5)", A_FEW_SCALARS),
    ("ire(K=10)", NUM_PARAMS + A_FEW_SCALARS),
    ("ire(rho)", NUM_PARAMS + A_FEW_SCALARS),
    ("lookahead", 4 * NUM_PARAMS + A_FEW_SCALARS),
    ("sala(5), stage 2", 4 * NUM_PARAMS + A_FEW_SCALARS),
  ],
)
def test_state_bytes(name, limit):
  assert 0 < step_cost.state_bytes(step_cost.optimizers()[name]) <= limit


def measured(program, **options):
  """What ``program`` prints as JSON, in a process whose programs are compiled as for users."""
  hasty = "XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS"
  environment = {name: value for name, value in os.environ.items() if name not in hasty}
  done = subprocess.run(
    [sys.executable, "-c", program, json.dumps(options)],
    env=environment,
    stdout=subprocess.PIPE,
    check=True,
  )
  return json.loads(done.stdout)


TIMES = """
import json, sys
from benchmarks import step_cost
print(json.dumps(step_cost.relative_times(**json.loads(sys.argv[1]))))
"""


@pytest.mark.slow
def test_times_against_the_base_step():
  limits = {"rst(.5)": 1.6, "sala(5), stage 2": 1.3, "ire(K=10)": 1.3, "lookahead": 1.05}
  times = measured(TIMES, names=list(limits))
  assert all(times[name] <= limit for name, limit in limits.items()), times


SELECTION = """
import json, statistics, time
import jax, jax.numpy as jnp
import flatopt

def seconds(fn):
  times = []
  for _ in range(3):
    start = time.perf_counter()
    fn(x).block_until_ready()
    times.append(time.perf_counter() - start)
  return statistics.median(times)

x, rank = jax.random.normal(jax.random.key(0), (20_000_000,)), 12_000_000
select = jax.jit(lambda x: flatopt.kth_smallest(x, rank))
by_sorting = jax.jit(lambda x: jnp.sort(x)[rank - 1])
same = bool(select(x) == by_sorting(x))
print(json.dumps({"same": same, "select": seconds(select), "sort": seconds(by_sorting)}))
"""


@pytest.mark.slow
def test_kth_smallest_is_ten_times_faster_than_a_sort():
  found = measured(SELECTION)
  assert found["same"]
  assert found["sort"] >= 10 * found["select"], found


def test_kth_smallest_of_sharded_params_moves_counts_only():
  mesh = Mesh(np.array(jax.devices()), ("devices",))
  tree = {"a": jnp.arange(4096.0).reshape(64, 64) % 997, "b": -jnp.arange(512.0)}
  sharded = jax.device_put(tree, NamedSharding(mesh, PartitionSpec("devices")))
  select = jax.jit(lambda t: flatopt.kth_smallest(t, 700)).lower(sharded).compile()
  program = select.as_text()
  assert "all-reduce" in program
  assert not [op for op in ("all-gather", "all-to-all", "sort(") if op in program]
  everything = np.concatenate([np.ravel(x) for x in tree.values()])
  assert select(sharded) == np.partition(everything, 699)[699]


IMPORT = """
import sys, time
import jax, optax
start = time.process_time()
import flatopt
print(time.process_time() - start)
heavy = {"equinox", "flax", "matplotlib", "tensorflow"} & set(sys.modules)
assert not heavy, heavy
"""


def test_import_is_light():
  seconds = [
    float(subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, check=True).stdout)
    for _ in range(3)
  ]
  assert min(seconds) < 0.3
