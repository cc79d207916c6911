"""The program of docs/clusters.md: two processes that stop and resume equal one that does not."""

import pathlib
import re

import numpy as np

from tests.processes import run_processes

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "clusters.md"
PROGRAM = re.search(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)[1]
START = (
  "import sys, jax; jax.distributed.initialize(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))\n"
)
END = """
import json
leaves = [np.asarray(x.addressable_data(0)).ravel().tolist() for x in jax.tree.leaves(state[0])]
print(json.dumps([last, leaves]))
"""


def run(num_processes, num_steps, folder):
  """The step that each process resumed from, and its params at the end."""
  assert "NUM_STEPS, BATCH_SIZE = 20, 64" in PROGRAM
  program = PROGRAM.replace(
    "NUM_STEPS, BATCH_SIZE = 20, 64", f"NUM_STEPS, BATCH_SIZE = {num_steps}, 64"
  )
  arguments = ["-c", START + program + END]
  return run_processes(arguments, num_processes, CHECKPOINTS=str(folder))


def test_two_processes_resume_and_end_where_one_does(tmp_path):
  run(2, 10, tmp_path / "two")
  resumed = run(2, 20, tmp_path / "two")
  [(_, straight)] = run(1, 20, tmp_path / "one")
  for last, params in resumed:
    assert last == 10
    for a, b in zip(params, straight, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
