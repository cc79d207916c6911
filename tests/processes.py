"""Starts a program in several processes that share eight devices, for tests of ``jax.distributed``."""

import json
import os
import socket
import subprocess
import sys


def run_processes(arguments, num_processes, **environment):
  """The last line that each process printed, from JSON.

  Each process is given ``arguments``, the coordinator's address, the number of processes and its
  own number.
  """
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
  # The last of two equal flags counts.
  flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={8 // num_processes}"
  processes = [
    subprocess.Popen(
      [sys.executable, *arguments, address, str(num_processes), str(i)],
      env=os.environ | {"XLA_FLAGS": flags} | environment,
      stdout=subprocess.PIPE,
      text=True,
    )
    for i in range(num_processes)
  ]
  outputs = [process.communicate(timeout=300)[0] for process in processes]
  assert all(process.returncode == 0 for process in processes)
  return [json.loads(output.splitlines()[-1]) for output in outputs]
