"""Measures of sharpness beside what runs reach."""

from matplotlib.figure import Figure

from experiments.measures.score import ACCURACY, Score
from experiments.plots import line_names
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
    ax.margins(x=0.08, y=0.12)
    for row in points:
      errors = {"xerr": row[key + "_error"] or 0, "yerr": row[score.key + "_error"] or 0}
      shade = colour(theme, row["method"])
      ax.errorbar(row[key], row[score.key], fmt="o", color=shade, ms=6, elinewidth=1.2, **errors)
    named = [(row[key], row[score.key], row["method"]) for row in points]
    line_names.beside_points(ax, named, [colour(theme, method) for _, _, method in named])
  figure.supylabel(score.label, size=9.5, color=theme["soft"])
  subtitle = "Means and standard errors over seeds. Further left is flatter."
  text = f"Measures of sharpness, and {score.label.split(',')[0]}"
  title(figure, theme, text, subtitle, results["runs"])
  return figure
