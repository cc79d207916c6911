"""Names of methods beside the ends of their lines."""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.optimize

from experiments.plots.style import colour, label_of

LINE = 0.065  # of the axes' height, for a line of text


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
