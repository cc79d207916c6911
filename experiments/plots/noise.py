"""Accuracy against the strength of weight noise."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.plots import line_names
from experiments.plots.style import canvas, colour, title


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
  dashes = line_names.dashes(shown[0].curves, reference if several else None, theme)
  for ax, panel in zip(axes.flat, shown, strict=True):
    for method, (mean_S, low_S, high_S) in panel.curves.items():
      shade = colour(theme, method)
      ax.fill_between(panel.strengths, low_S, high_S, color=shade, alpha=alpha, linewidth=0)
      ax.plot(panel.strengths, mean_S, color=shade, linewidth=2, linestyle=dashes[method])
    ax.set_title(panel.title, loc="left", size=10.5, color=theme["ink"], pad=3)
    ax.set_xlabel(panel.label, size=9.5, color=theme["soft"])
    ax.set_xlim(panel.strengths[0], panel.strengths[-1])
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.grid(axis="x", visible=False)
  for ax, panel in zip(axes.flat, shown, strict=True):  # the limits are known by now
    line_names.beside(
      ax, {m: float(mean_S[-1]) for m, (mean_S, _, _) in panel.curves.items()}, theme
    )
  axes[0, 0].set_ylabel("test accuracy, %", size=9.5, color=theme["soft"])
  title(figure, theme, *texts, shown[0].curves if several else ())
  return figure
