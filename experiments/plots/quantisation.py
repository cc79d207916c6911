"""What quantised weights cost, every method beside the reference."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from experiments.plots.style import canvas, colour, label_of, lines_of, title


def damage(
  tables: Mapping[int, list[dict[str, Any]]],
  texts: tuple[str, str],
  label: str,
  theme: dict[str, str],
) -> Figure:
  """A panel a number of bits; ``tables[B]`` has rows of "damage_B", the reference first."""
  methods = [row["method"] for row in next(iter(tables.values()))]
  labels = [label_of(method) for method in methods]
  height = max(0.34, 0.19 * lines_of(labels)) * len(methods) + 1.9
  figure, axes = canvas(theme, 8, height, 1.05, columns=len(tables), sharey=True)
  figure.get_layout_engine().set(wspace=0.06)
  for ax, (bits, rows) in zip(axes.flat, tables.items(), strict=True):
    ax.grid(axis="y", visible=False)
    ax.axvline(0, color=theme["line"], linewidth=1.2)
    key = f"damage_{bits}"
    for y, row in enumerate(rows):
      if row[key] is not None:
        error, shade = row[f"{key}_error"] or 0, colour(theme, row["method"])
        ax.errorbar(row[key], y, xerr=error, fmt="o", color=shade, ms=7, elinewidth=2.2)
    if len(rows) > 1 and rows[0][key] is not None:
      ax.axvline(rows[0][key], color=theme["base"], linewidth=1, linestyle=(0, (4, 3)))
    ax.set_title(f"{bits} bits", loc="left", size=10.5, color=theme["ink"], pad=3)
    ax.locator_params(axis="x", nbins=5)
  first = axes[0, 0]
  first.set_yticks(range(len(methods)), labels, size=10.5)
  for tick, method in zip(first.get_yticklabels(), methods, strict=True):
    tick.set_color(colour(theme, method))
  first.set_ylim(len(methods) - 0.4, -0.6)
  figure.supxlabel(label, size=9.5, color=theme["soft"])
  title(figure, theme, *texts, methods)
  return figure
