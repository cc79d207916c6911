"""Peak memory of the devices since the process began, or of the process on a CPU."""

import contextlib
import re
import resource
import sys
from pathlib import Path

import jax

LINUX = Path("/proc/self")


def forget_peak() -> None:
  """Resets the peak to the present use, where Linux allows it; devices' counts cannot be reset."""
  with contextlib.suppress(OSError):
    (LINUX / "clear_refs").write_text("5")


def peak_mb() -> float:
  """The devices' peak where they count it, else that of the process."""
  stats = [device.memory_stats() or {} for device in jax.local_devices()]
  if all("peak_bytes_in_use" in one for one in stats):
    return sum(one["peak_bytes_in_use"] for one in stats) / 1e6
  with contextlib.suppress(OSError):
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", (LINUX / "status").read_text())
    return int(peak) * 1024 / 1e6
  unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kibibytes elsewhere
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
