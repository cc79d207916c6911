"""What is reached against the gradients that a run pays, and the frontier of the best."""

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from experiments.measures.score import Score
from experiments.plots import line_names
from experiments.plots.style import canvas, colour, title


def frontier(found: dict, score: Score, theme: dict[str, str]) -> Figure:
  """Every method as a point; the line joins those that nothing cheaper beats."""
  rows = found["rows"]
  figure, axes = canvas(theme, 8, max(5.0, 0.24 * len(rows) + 2.2), top=1.05)
  ax = axes[0, 0]
  ax.margins(x=0.05, y=0.08)
  best = [row for row in rows if row["on_frontier"]]
  ax.step(
    [row["gradients"] for row in best],
    [row[score.key] for row in best],
    where="post",
    color=theme["soft"],
    linewidth=1.2,
    zorder=1,
  )
  for row in rows:
    ax.errorbar(
      row["gradients"],
      row[score.key],
      row[score.key + "_error"] or 0,
      fmt="o",
      ms=7 if row["on_frontier"] else 5,
      mfc=colour(theme, row["method"]) if row["on_frontier"] else theme["ground"],
      color=colour(theme, row["method"]),
      elinewidth=1.2,
    )
  points = [
    (row["gradients"], row[score.key], f"{row['label']}  {score.text(row[score.key])}")
    for row in rows
  ]
  shades = [colour(theme, row["method"]) for row in rows]
  line_names.beside_points(ax, points, shades, [row["on_frontier"] for row in rows])
  ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
  ax.set_xlabel("gradients paid by a run", size=9.5, color=theme["soft"])
  ax.set_ylabel(score.label, size=9.5, color=theme["soft"])
  seeds = min(row["n"] for row in rows)
  texts = (
    f"{found['config']['name']}: {score.label.split(',')[0]} for the gradients paid",
    f"Mean and standard error of {seeds} seeds. Filled: nothing as cheap is better.",
  )
  title(figure, theme, *texts, [row["method"] for row in rows])
  return figure
