"""The report of a run's sharpness: a table, the spectrum and the landscape."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.config import files
from experiments.measures.sharpness import ARRAYS, NUMBERS
from experiments.methods import method_name
from experiments.plots import landscapes, spectra, style
from experiments.reports import page
from experiments.reports.section import NOTHING, Section
from experiments.training import run_directory

HEADER = "measure", "value", "gradients"
CAPTION = (
  "Gradients: what each measure costs, of the loss on these examples; the loss itself counts as a"
  " third of one. Model in evaluation mode, no augmentation, labels as in training. Adaptive: in a"
  " ball that scales with the weights. Eigenvalues: Ritz values, never above the true ones."
)


def section(directory: Path) -> Section:
  """Draws spectrum.png and landscape.png, if sharpness was measured."""
  if not (directory / NUMBERS).exists():
    return NOTHING
  found = files.read_json(directory / NUMBERS)
  with files.reading(directory / ARRAYS), np.load(directory / ARRAYS) as archive:
    arrays = {name: archive[name] for name in ("grid", "density", "line", "plane")}
  method = method_name(run_directory.read_config(directory).opt)
  style.save_all(figures(found, arrays, method), directory)
  about = f"At step {found['step']}, on the first {found['examples']:,} training examples."
  rows = table(found)
  html = [
    "<h2>Sharpness</h2>",
    f"<p>{about}</p>",
    f'<div class="wide">{page.html_table(HEADER, rows)}</div>',
    f'<p class="small">{CAPTION}</p>',
    *(page.picture(directory, name) for name in ("spectrum", "landscape")),
  ]
  return Section(html, [page.terminal_table(HEADER, rows, f"{about} {CAPTION}")])


def table(found: dict[str, Any]) -> list[list[str]]:
  """Rows of texts under ``HEADER``."""
  values, o = found["values"], found["options"]
  estimate = lambda x: (
    number(x["mean"])
    + ("" if x["standard_error"] is None else f" ± {number(x['standard_error'], 2)}")
  )
  steps = f", {o['ascent_steps']} steps" if o["ascent_steps"] > 1 else ""
  named = {
    "loss": ("training loss", number(values["loss"])),
    "ascent": (f"worst-case increase, rho {o['rho']:g}{steps}", number(values["ascent"])),
    "adaptive_ascent": (
      f"adaptive increase, rho {o['adaptive_rho']:g}{steps}",
      number(values["adaptive_ascent"]),
    ),
    "average": (f"average increase, sigma {o['sigma']:g}", estimate(values["average"])),
    "top_eigenvalues": ("top eigenvalues", ", ".join(map(number, values["top_eigenvalues"]))),
    "trace": ("trace", estimate(values["trace"])),
    "spectral_density": ("spectral density", "figure"),
    "line": ("landscape, a direction", "figure"),
    "plane": ("landscape, two directions", "figure"),
  }
  paid = found["gradients"]
  rows = [[*texts, f"{paid[name]:,.1f}"] for name, texts in named.items()]
  return [*rows, ["all", "", f"{sum(paid.values()):,.1f}"]]


def number(x: float | None, digits: int = 4) -> str:
  return "not finite" if x is None else f"{x:.{digits}g}".replace("-", "\u2212")


def figures(found: dict[str, Any], arrays: dict[str, np.ndarray], method: str) -> dict[str, Any]:
  o = found["options"]
  spectrum = (
    "The density of the Hessian's eigenvalues",
    f"{o['probes']} probes of {o['num_matvecs']} Lanczos steps, smoothed by 1 % of the range.",
  )
  landscape = (
    "The training loss around the params",
    "Along one and two random directions, in lengths of the filters.",
  )
  densities = {method: (arrays["grid"], arrays["density"])}
  line, plane = (np.where(np.isfinite(x), x, np.nan) for x in (arrays["line"], arrays["plane"]))
  return {
    "spectrum": lambda theme: spectra.densities(densities, spectrum, theme),
    "landscape": lambda theme: landscapes.line_and_plane(
      method, line, plane, o["span"], landscape, theme
    ),
  }
