"""What is left of the first corpus, against what was learned of the second."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from experiments.plots import line_names
from experiments.plots.style import canvas, colour, title


def kept_and_learned(
  tables: Mapping[str, Mapping[str, list[dict[str, Any]]]],
  panels: Mapping[int, str],
  texts: tuple[str, str],
  theme: dict[str, str],
) -> Figure:
  """A panel for each number of bits, by its title; a line a method, through its learning rates.

  ``tables[rate]`` holds the rows of a learning rate, by column.
  """
  figure, axes = canvas(theme, 8, 4.6, 1.05, columns=len(panels))
  figure.get_layout_engine().set(wspace=0.06)
  methods = [row["method"] for row in next(iter(next(iter(tables.values())).values()))]
  for ax, (bits, name) in zip(axes.flat, panels.items(), strict=True):
    ax.margins(x=0.08, y=0.1)
    ends = []
    for index, method in enumerate(methods):
      points = _points(tables, bits, index)
      shade = colour(theme, method)
      line = [x for x, _, _, _ in points], [y for _, y, _, _ in points]
      ax.plot(*line, color=shade, linewidth=1.2, alpha=0.6)
      for size, (x, y, x_error, y_error) in enumerate(points):
        ax.errorbar(x, y, y_error, x_error, fmt="o", color=shade, ms=5 + 2 * size, elinewidth=1.2)
      ends += [(x, y, method) for x, y, _, _ in points[-1:]]
    line_names.beside_points(ax, ends, [colour(theme, method) for _, _, method in ends])
    ax.set_title(name, loc="left", size=10.5, color=theme["ink"], pad=3)
    ax.locator_params(nbins=5)
  figure.supxlabel("loss on the second corpus, nats a token", size=9.5, color=theme["soft"])
  figure.supylabel("loss on the first corpus", size=9.5, color=theme["soft"])
  title(figure, theme, *texts, methods)
  return figure


def _points(tables: Mapping, bits: int, index: int) -> list[tuple[float, float, float, float]]:
  """(second loss, first loss, their errors) at each learning rate at which a method converged."""
  found = []
  for table in tables.values():
    keys = [f"{corpus}_after_{bits}" for corpus in ("second", "first")]
    rows = [table[key][index] for key in keys]
    means = [row[key] for row, key in zip(rows, keys, strict=True)]
    errors = [row[f"{key}_error"] or 0.0 for row, key in zip(rows, keys, strict=True)]
    if None not in means:
      found.append((*means, *errors))
  return found
