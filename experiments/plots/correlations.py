"""Rank correlations of flatness with what is reached, with their intervals."""

from typing import Any

from matplotlib.figure import Figure

from experiments.measures.correlations import KINDS, LEVEL
from experiments.measures.flatness import MEASURES
from experiments.measures.score import by_key
from experiments.plots.style import canvas, title

FILE = "correlations.png"
APART = 0.16  # of a row: from its middle to either of its two points


def targets(found: dict[str, Any]) -> dict[str, str]:
  """What flatness is correlated with, by key: the score, and the gap."""
  return {found["score"]: by_key(found["score"]).label.split(",")[0], "gap": "generalisation gap"}


def forest(found: dict[str, Any], theme: dict[str, str]) -> Figure:
  """A row a measure and a panel a kind; the score is filled, the gap is open."""
  figure, axes = canvas(
    theme, 8, 0.62 * len(MEASURES) + 1.75, 0.85, columns=len(KINDS), sharey=True
  )
  figure.get_layout_engine().set(wspace=0.08)
  rows = {(row["measure"], row["with"], row["kind"]): row for row in found["rows"]}
  for ax, (kind, label) in zip(axes.flat, KINDS.items(), strict=True):
    ax.grid(axis="y", visible=False)
    ax.axvline(0, color=theme["soft"], linewidth=1, linestyle=(0, (4, 3)))
    ax.set_title(label, loc="left", size=10.5, color=theme["ink"], pad=4)
    ax.set_xlim(-1.05, 1.05)
    ax.set_xticks([-1, -0.5, 0, 0.5, 1], ["\u22121", "", "0", "", "+1"])
    for y, name in enumerate(MEASURES):
      for target, offset in zip(targets(found), (-APART, APART), strict=True):
        point(ax, rows[name, target, kind], y + offset, target == found["score"], theme)
  first = axes[0, 0]
  labels = [label.replace(": ", ":\n", 1) for label in MEASURES.values()]
  first.set_yticks(range(len(MEASURES)), labels, size=9.5)
  for tick in first.get_yticklabels():
    tick.set_color(theme["ink"])
  first.set_ylim(len(MEASURES) - 0.5, -0.5)
  figure.supxlabel(
    "Kendall's tau: right of 0, the flatter one generalises better", size=9.5, color=theme["soft"]
  )
  score, gap = targets(found).values()
  texts = (
    f"{found['config']['name']}: which measure of flatness predicts anything",
    f"Filled: with {score}. Open: with the {gap}. Bars: {LEVEL:.0%} of resamples of whole methods.",
  )
  title(figure, theme, *texts)
  return figure


def point(ax, row: dict[str, Any], y: float, filled: bool, theme: dict[str, str]) -> None:
  if row["tau"] is None:
    return
  shade = theme["before the base"] if filled else theme["around the base"]
  if row["low"] is not None:
    ax.plot([row["low"], row["high"]], [y, y], color=shade, linewidth=2, solid_capstyle="butt")
  ground = shade if filled else theme["ground"]
  ax.plot(row["tau"], y, "o", color=shade, mfc=ground, ms=6.5, mew=1.5)
