"""Peak memory of the devices since the process began, or of the process on a CPU."""

import contextlib
import re
import resource
import sys
from pathlib import Path

import jax

LINUX = Path("/proc/self")


def forget_peak() -> None:
  """Back to what is held now, where Linux allows it; devices' own counts cannot be taken back."""
  with contextlib.suppress(OSError):
    (LINUX / "clear_refs").write_text("5")


def peak_mb() -> float:
  """Of the devices where they count it, else of the process."""
  stats = [device.memory_stats() or {} for device in jax.local_devices()]
  if all("peak_bytes_in_use" in one for one in stats):
    return sum(one["peak_bytes_in_use"] for one in stats) / 1e6
  with contextlib.suppress(OSError):
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", (LINUX / "status").read_text())
    return int(peak) * 1024 / 1e6
  unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kibibytes elsewhere
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
