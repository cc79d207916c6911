"""The program of docs/clusters.md: two processes that stop and resume equal one that does not."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys

import numpy as np

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
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
  # The last of two equal flags counts.
  flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={8 // num_processes}"
  environment = os.environ | {"XLA_FLAGS": flags, "CHECKPOINTS": str(folder)}
  processes = [
    subprocess.Popen(
      [sys.executable, "-c", START + program + END, address, str(num_processes), str(i)],
      env=environment,
      stdout=subprocess.PIPE,
      text=True,
    )
    for i in range(num_processes)
  ]
  outputs = [process.communicate(timeout=300)[0] for process in processes]
  assert all(process.returncode == 0 for process in processes)
  return [json.loads(output.splitlines()[-1]) for output in outputs]


def test_two_processes_resume_and_end_where_one_does(tmp_path):
  run(2, 10, tmp_path / "two")
  resumed = run(2, 20, tmp_path / "two")
  [(_, straight)] = run(1, 20, tmp_path / "one")
  for last, params in resumed:
    assert last == 10
    for a, b in zip(params, straight, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
