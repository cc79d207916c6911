"""Names of methods beside the ends of their lines, and beside the axes of their points."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.optimize

from experiments.plots.style import colour, label_of

LINE = 0.065  # of the axes' height, for a line of text


DASHES = "-", (0, (1, 1.2)), (0, (7, 1.5, 1.5, 1.5)), (0, (3, 1, 1, 1, 1, 1))


def dashes(methods: Iterable[str], reference: str | None, theme: dict[str, str]) -> dict[str, Any]:
  """A method's line: the reference is dashed, and methods of one colour have lines of their own."""
  found, of_colour = {}, Counter()
  for method in methods:
    shade = colour(theme, method)
    found[method] = (0, (4, 2)) if method == reference else DASHES[of_colour[shade] % len(DASHES)]
    of_colour[shade] += method != reference
  return found


def beside(ax, ends: Mapping[str, float], theme: dict[str, str]) -> None:
  """Writes names right of the axes without overlaps, with thin lines to their curves' ends."""
  low, high = ax.get_ylim()
  labels = [label_of(method, room=14) for method in ends]
  heights = [(high - low) * LINE * (1 + label.count("\n")) for label in labels]
  places = spread(list(ends.values()), heights, low, high)
  for method, label, y in zip(ends, labels, places, strict=True):
    shade = colour(theme, method)
    ax.annotate(
      label,
      (1, ends[method]),
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


def beside_points(
  ax, points: Sequence[tuple[float, float, str]], shades: Sequence[str], bold: Sequence[bool] = ()
) -> None:
  """Writes the texts of points (x, y, text) right of the axes in the order of y, each joined by a
  thin line to its point, so that none is without its name and none covers another."""
  low, high = ax.get_ylim()
  values = [y for _, y, _ in points]
  places = spread(values, [(high - low) * 0.9 / max(8, len(points))] * len(points), low, high)
  weights = [*bold, *[False] * len(points)]
  for (x, y, text), place, shade, heavy in zip(points, places, shades, weights, strict=False):
    ax.annotate(
      text,
      (x, y),
      (1.04, place),
      textcoords=ax.get_yaxis_transform(),
      annotation_clip=False,
      arrowprops={
        "arrowstyle": "-",
        "color": shade,
        "linewidth": 0.5,
        "alpha": 0.5,
        "shrinkA": 1,
        "shrinkB": 3,
        "relpos": (0, 0.5),
      },
      color=shade,
      size=8.5,
      weight="bold" if heavy else "normal",
      va="center",
    )


def spread(
  values: Sequence[float], heights: Sequence[float], low: float, high: float
) -> np.ndarray:
  """``values`` moved apart as little as texts of these heights need, between low and high."""
  order = np.argsort(values, kind="stable")
  tall = np.asarray(heights, np.float64)[order]
  # Offsets of texts that touch each other; the values without them must not decrease.
  offsets = np.concatenate([[0.0], np.cumsum((tall[1:] + tall[:-1]) / 2)])
  placed = scipy.optimize.isotonic_regression(np.asarray(values, np.float64)[order] - offsets).x
  moved = np.empty(len(values))
  moved[order] = np.clip(placed, low, max(low, high - offsets[-1])) + offsets
  return moved
