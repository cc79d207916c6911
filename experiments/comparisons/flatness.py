"""The sharpness of all runs of a comparison, measured by the processes that share it."""

import dataclasses
import functools
from pathlib import Path

from rich.console import Console

from experiments.comparisons.sharing import Job, train_all
from experiments.config import files
from experiments.measures import flatness
from experiments.measures.compared_runs import runs_below
from experiments.measures.flatness import FlatnessOptions


def measure_all(out: Path, options: FlatnessOptions, console: Console) -> None:
  """Measures every run of a finished comparison; writes flatness.json of all of them last."""
  runs = runs_below(out)

  def unmeasured() -> list[Job]:
    return [
      Job(
        path.relative_to(out).parts,
        functools.partial(
          flatness.measure, path, options, landscape=method in options.pictured and index == 0
        ),
      )
      for method, paths in runs.items()
      for index, path in enumerate(paths)
      if not (path / flatness.NUMBERS).exists()
    ]

  train_all(unmeasured, console)
  found = {
    method: [files.read_json(path / flatness.NUMBERS) for path in paths]
    for method, paths in runs.items()
  }
  firsts = {method: measured[0] for method, measured in found.items()}
  landscapes = {m: one["landscape"] for m, one in firsts.items() if "landscape" in one}
  values = {
    method: [{name: run[name] for name in ("train_loss", *flatness.MEASURES)} for run in measured]
    for method, measured in found.items()
  }
  written = {"options": dataclasses.asdict(options), "runs": values, "landscapes": landscapes}
  files.write_json(out / flatness.NUMBERS, written)
