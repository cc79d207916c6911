"""Measures of sharpness beside what runs reach."""

from matplotlib.figure import Figure

from experiments.measures.score import ACCURACY, Score
from experiments.plots.style import canvas, colour, title


def flatness(
  results: dict, measures: dict[str, str], theme: dict[str, str], score: Score = ACCURACY
) -> Figure:
  """The score against every measure of sharpness: a panel a measure, by key and label."""
  columns = 2
  rows = -(-len(measures) // columns)
  figure, axes = canvas(theme, 8, 2.7 * rows + 1.1, 1.05, rows, columns, sharey=True)
  panels = list(axes.flat)
  for ax in panels[len(measures) :]:
    ax.set_visible(False)
  for ax, (key, label) in zip(panels, measures.items(), strict=False):
    points = [row for row in results["table"] if None not in (row[key], row[score.key])]
    ax.grid(axis="y", visible=False)
    ax.set_title(label, loc="left", size=9.5, color=theme["ink"], pad=3)
    ax.margins(x=0.2, y=0.12)
    for row in points:
      errors = {"xerr": row[key + "_error"] or 0, "yerr": row[score.key + "_error"] or 0}
      shade = colour(theme, row["method"])
      ax.errorbar(row[key], row[score.key], fmt="o", color=shade, ms=6, elinewidth=1.2, **errors)
    name_where_there_is_room(ax, [(r[key], r[score.key], r["method"]) for r in points], theme)
  figure.supylabel(score.label, size=9.5, color=theme["soft"])
  subtitle = (
    "Means and standard errors over seeds. Further left is flatter. Names where there is room."
  )
  text = f"Measures of sharpness, and {score.label.split(',')[0]}"
  title(figure, theme, text, subtitle, results["runs"])
  return figure


def name_where_there_is_room(ax, points: list[tuple[float, float, str]], theme: dict) -> None:
  """Right of its point, unless another's name is there already."""
  low, high = ax.get_ylim()
  left, right = ax.get_xlim()
  taken = []
  for x, y, name in points:
    place = (x - left) / (right - left), (y - low) / (high - low)
    if all(abs(place[0] - u) > 0.3 or abs(place[1] - v) > 0.07 for u, v in taken):
      taken.append(place)
      shade = colour(theme, name)
      ax.annotate(name, (x, y), (6, 4), textcoords="offset points", size=8.5, color=shade)
