"""Parts that several reports have in common."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments import config as configuration
from experiments.config import Config, Refusal, files
from experiments.methods import base_name
from experiments.plots import own_metrics, style
from experiments.reports import flatness, noise, page, quantisation, sharpness

PAID_COLUMNS = "steps", "gradients", "wall,\ns", "steps\na second", "peak,\nMB", "n"
PEAK = "Peak: of the process, to which earlier runs in it may have added."
SECTIONS = (  # by other commands' measurements
  flatness.section,
  sharpness.section,
  noise.section,
  quantisation.section,
)


def setting(config: Config) -> str:
  training, data = config.training, config.data
  noise = f", {data.wrong_labels:.0%} of the training labels wrong" if data.wrong_labels else ""
  chosen = {f.name: getattr(data.augment, f.name) for f in dataclasses.fields(data.augment)}
  drawn = ", ".join(n if x is True else f"{n} {x:g}" for n, x in chosen.items() if x)
  augmented = f" Training images are augmented: {drawn}." if drawn else ""
  smooth = f"; label smoothing {training.label_smoothing:g}" if training.label_smoothing else ""
  about = data.set.about[:1].upper() + data.set.about[1:]
  return (
    f"{about}{noise}; batches of {data.batch_size}. {type(config.model).__name__} in"
    f" {training.compute_dtype}, {base_name(config.opt.base)} with a"
    f" {'cosine' if config.opt.schedule == 'cosine' else 'stepwise'} decay{smooth}.{augmented}"
  )


def sections(directory: Path, console: Console) -> list[str]:
  """HTML of the measurements in ``directory``; their tables are printed on the terminal."""
  shown = [section(directory) for section in SECTIONS]
  for table in (table for one in shown for table in one.tables):
    console.print(table)
  return [part for one in shown for part in one.html]


def read_spec(out: Path, kind: type) -> tuple[dict[str, Any], Any]:
  """The content of compare.json, and the comparison built from it.

  What an older version wrote besides is left out: how it tuned is in its results.
  """
  spec = files.read_json(out / "compare.json")
  try:
    known = {field.name for field in dataclasses.fields(kind)}
    fields = {n: configuration.from_dict(value) for n, value in spec.items() if n in known}
    return spec, configuration.checked(kind, fields)
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise Refusal(f"{out} is not a comparison of this version: {error}") from error


def read_results(out: Path, command: str) -> dict[str, Any]:
  if not (out / "results.json").exists():
    raise Refusal(
      f"{out}: the comparison is not finished: run the same `{command}` again to continue"
    )
  return files.read_json(out / "results.json")


def paid_cells(row: dict[str, Any]) -> list[str]:
  """The costs of a method's runs, as texts for ``PAID_COLUMNS``."""
  return [
    *(f"{row[name]:,.0f}" for name in ("steps", "gradients")),
    *(f"{row[name]:.1f}" for name in ("seconds", "steps_per_second")),
    f"{row['peak_memory_mb']:,.0f}",
    str(row["n"]),
  ]


def settings_table(chosen: dict[str, Any]) -> str:
  base = "learning_rate", "weight_decay"
  rows = [
    [style.label_of(name), own_settings(opt), *(f"{opt[key]:.3g}" for key in base)]
    for name, opt in chosen.items()
  ]
  table = page.html_table(("method", "own settings", "learning rate", "weight decay"), rows)
  return f'<h2>Settings</h2>\n<div class="wide text">{table}</div>'


def own_settings(opt: dict[str, Any]) -> str:
  own = {name: x for name, x in opt["method"].items() if name != "type" and x is not None}
  text = lambda x: x if isinstance(x, str) else f"{x:.3g}"
  return ", ".join(f"{name} {text(x)}" for name, x in own.items()) or "-"


def metrics_figure(found: dict[str, dict[str, list]], subtitle: str) -> dict[str, Callable]:
  """The figure of the methods' own metrics, if there are any besides counts."""
  texts = "The methods' own metrics over training", subtitle
  draw = lambda theme: own_metrics.draw(found, texts, theme)
  return {"metrics": draw} if any(found.values()) else {}
