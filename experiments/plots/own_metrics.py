"""The methods' own metrics over training."""

import numpy as np
from matplotlib.figure import Figure

from experiments.plots.style import canvas, colour, label_of, lines_of, title


def draw(
  metrics: dict[str, dict[str, list[tuple[float, float]]]],
  texts: tuple[str, str],
  theme: dict[str, str],
) -> Figure:
  """A panel a method and quantity; ``metrics[method]`` as ``over_training`` gives it."""
  panels = [(method, name) for method, quantities in metrics.items() for name in quantities]
  columns = min(3, len(panels))
  rows = -(-len(panels) // columns)
  labels = {method: label_of(method) for method, _ in panels}
  height = (1.62 + 0.18 * lines_of(labels.values())) * rows + 1.3
  figure, axes = canvas(theme, 8, height, 0.8, rows, columns, sharex=True)
  for ax in axes.flat[len(panels) :]:
    ax.set_visible(False)
  limits = {name: _limits(metrics, name) for _, name in panels}
  for ax, (method, name) in zip(axes.flat, panels, strict=False):
    points = np.array(metrics[method][name])
    shade = colour(theme, method)
    if len(points):
      ax.plot(*points.T, color=shade, linewidth=2, solid_capstyle="round")
    ax.set_title(labels[method], loc="left", size=10.5, weight="bold", color=shade, pad=16)
    ax.text(0, 1.02, name, transform=ax.transAxes, size=9, color=theme["soft"], va="bottom")
    ax.set_xlim(0, 1)
    ax.set_ylim(limits[name])
    ax.yaxis.set_major_formatter("{x:.3g}")
    ax.grid(axis="x", visible=False)
  figure.supxlabel("share of the steps", size=9.5, color=theme["soft"])
  title(figure, theme, *texts)
  return figure


def _limits(metrics: dict[str, dict[str, list[tuple[float, float]]]], name: str):
  """One axis for a quantity of all methods, so that their panels can be compared."""
  values = [y for quantities in metrics.values() for _, y in quantities.get(name, ())]
  low, high = min(values, default=0.0), max(values, default=1.0)
  margin = 0.06 * ((high - low) or abs(high) or 1.0)
  return low - margin, high + margin
