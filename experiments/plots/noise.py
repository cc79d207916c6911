"""Accuracy against the strength of weight noise."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.optimize
from matplotlib.figure import Figure

from experiments.plots.style import PLACES, canvas, colour, title


class Panel(NamedTuple):
  """``curves[method]``: mean, low and high, each of shape (S,) for S strengths."""

  title: str
  label: str  # of the strengths
  strengths: Sequence[float]
  curves: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]


def panels(
  shown: Sequence[Panel], texts: tuple[str, str], theme: dict[str, str], reference: str
) -> Figure:
  """A line and a band a method, named where its line ends."""
  several = len(shown[0].curves) > 1
  height = max(4.2, 2 + 0.17 * len(shown[0].curves))
  alpha = 0.12 if len(shown[0].curves) < 5 else 0.06
  top = 1.05 if several else 0.8
  figure, axes = canvas(theme, 8, height, top, columns=len(shown), sharey=True)
  for ax, panel in zip(axes.flat, shown, strict=True):
    for method, (mean_S, low_S, high_S) in panel.curves.items():
      shade = colour(theme, method)
      dashes = (0, (4, 2)) if several and method == reference else "-"
      ax.fill_between(panel.strengths, low_S, high_S, color=shade, alpha=alpha, linewidth=0)
      ax.plot(panel.strengths, mean_S, color=shade, linewidth=2, linestyle=dashes)
    ax.set_title(panel.title, loc="left", size=10.5, color=theme["ink"], pad=3)
    ax.set_xlabel(panel.label, size=9.5, color=theme["soft"])
    ax.set_xlim(panel.strengths[0], panel.strengths[-1])
    ax.grid(axis="x", visible=False)
  for ax, panel in zip(axes.flat, shown, strict=True):  # the limits are known by now
    _name_lines(ax, panel, theme)
  axes[0, 0].set_ylabel("test accuracy, %", size=9.5, color=theme["soft"])
  title(figure, theme, *texts, key=tuple(PLACES) if several else ())
  return figure


def _name_lines(ax, panel: Panel, theme: dict[str, str]) -> None:
  """Right of the axes, none on another, with a thin line to where the method's own ends."""
  ends = {method: float(curve[0][-1]) for method, curve in panel.curves.items()}
  low, high = ax.get_ylim()
  places = spread(list(ends.values()), 0.062 * (high - low), low, high)
  for (method, end), y in zip(ends.items(), places, strict=True):
    shade = colour(theme, method)
    ax.annotate(
      method,
      (1, end),
      (1.08, y),
      xycoords=ax.get_yaxis_transform(),
      textcoords=ax.get_yaxis_transform(),
      annotation_clip=False,
      arrowprops={
        "arrowstyle": "-",
        "color": shade,
        "linewidth": 0.6,
        "shrinkA": 1,
        "shrinkB": 0,
        "relpos": (0, 0.5),
      },
      color=shade,
      size=9,
      va="center",
    )


def spread(values: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
  """``values`` moved apart to ``gap`` at least, as little as that takes, within low and high."""
  order = np.argsort(values, kind="stable")
  steps = gap * np.arange(len(values))
  # What is left of steps of one gap must not fall.
  placed = scipy.optimize.isotonic_regression(np.asarray(values, np.float64)[order] - steps).x
  moved = np.empty(len(values))
  moved[order] = np.clip(placed, low, max(low, high - steps[-1])) + steps
  return moved
