"""Colours for light and dark backgrounds, and the style of the axes."""

from typing import Any

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes

# The hues of Okabe and Ito, which colour-blind readers can distinguish, in shades that contrast
# with each background.
LIGHT = {
  "ground": "#ffffff",
  "ink": "#1b1d21",
  "soft": "#6a6f77",
  "line": "#dfe2e6",
  "series": ("#0072b2", "#c25400", "#a8437a", "#00795c", "#1b1d21"),
}
DARK = {
  "ground": "#15171b",
  "ink": "#eceef1",
  "soft": "#9aa0a8",
  "line": "#363b43",
  "series": ("#56b4e9", "#f0a03c", "#e391bd", "#2bc4a0", "#eceef1"),
}


def styled_axes(ax: Axes | None, dark: bool) -> tuple[Axes, dict[str, Any]]:
  """Returns the caller's axes unchanged, or styled axes of a new figure; and the colours."""
  colours = DARK if dark else LIGHT
  if ax is not None:
    return ax, colours
  _, ax = pyplot.subplots(figsize=(5.6, 3.6), facecolor=colours["ground"], layout="constrained")
  ax.set_facecolor(colours["ground"])
  ax.spines[:].set_visible(False)
  ax.tick_params(which="both", colors=colours["soft"], labelsize=9, length=0)
  ax.grid(color=colours["line"], linewidth=0.8)
  ax.set_axisbelow(True)
  return ax, colours


def label_axes(ax: Axes, x: str, y: str, colours: dict[str, Any]) -> None:
  ax.set_xlabel(x, size=9.5, color=colours["soft"])
  ax.set_ylabel(y, size=9.5, color=colours["soft"])


def next_colour(ax: Axes, colours: dict[str, Any]) -> str:
  """Returns a colour that depends on the number of lines in the axes."""
  return colours["series"][len(ax.lines) % len(colours["series"])]


def show_labels(ax: Axes, colours: dict[str, Any]) -> None:
  """Adds a legend if a line has a label."""
  if ax.get_legend_handles_labels()[1]:
    ax.legend(frameon=False, labelcolor=colours["ink"], fontsize=9.5)


def as_array(function: str, name: str, values: Any, num_axes: int) -> np.ndarray:
  """Returns the values as an array, and checks its number of axes."""
  array = np.asarray(values, np.float64)
  if array.ndim != num_axes or min(array.shape) < 2:
    raise ValueError(
      f"{function}: {name} must have {num_axes} {'axis' if num_axes == 1 else 'axes'} of 2 or more"
      f" points; got shape {array.shape}"
    )
  return array
