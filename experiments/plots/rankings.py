"""Every method's mean in one column, best first."""

from matplotlib.figure import Figure

from experiments.measures.score import Score
from experiments.plots.style import canvas, colour, label_of, lines_of, title


def ranking(results: dict, score: Score, texts: tuple[str, str], theme: dict) -> Figure:
  """Every method's mean, best first, beside the reference's."""
  key, error_key = score.key, score.key + "_error"
  best_last = 1 if score.better == "higher" else -1
  rows = [row for row in results["table"] if row[key] is not None]
  rows.sort(key=lambda row: best_last * row[key])
  reference = next((row for row in rows if row["method"] == score.reference), None)
  labels = [label_of(row["method"]) for row in rows]
  row_height = max(0.34, 0.19 * lines_of(labels))
  figure, axes = canvas(theme, 8, row_height * len(rows) + 1.75, top=1.05)
  ax = axes[0, 0]
  ax.grid(axis="y", visible=False)
  if reference:
    ax.axvline(reference[key], color=theme["base"], linewidth=1, linestyle=(0, (4, 3)))
  right = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "size": 9.5}
  own, beside = (8, 0), (44 if score.digits == 1 else 56, 0)
  for y, row in enumerate(rows):
    method, mean = row["method"], row[key]
    shade = colour(theme, method)
    seeds = [run[key] for run in results["runs"][method]]
    ax.plot(seeds, [y] * len(seeds), "|", color=shade, alpha=0.6, markersize=9)
    ax.errorbar(mean, y, xerr=row[error_key] or 0, fmt="o", color=shade, ms=7, elinewidth=2.2)
    ax.annotate(
      score.text(mean), (1, y), own, color=theme["ink"], weight="bold", va="center", **right
    )
    if method != score.reference and row["difference"] is not None:
      difference = score.text(row["difference"], row["difference_error"], sign="+")
      ax.annotate(difference, (1, y), beside, color=theme["soft"], va="center", **right)
  ax.annotate(
    f"minus {score.reference}", (1, len(rows) - 0.4), beside, color=theme["soft"], **right
  )
  ax.set_yticks(range(len(rows)), labels, size=10.5)
  for tick, row in zip(ax.get_yticklabels(), rows, strict=True):
    tick.set_color(colour(theme, row["method"]))
  ax.set_ylim(-0.6, len(rows) - 0.4)
  ax.set_xlabel(score.label, size=9.5, color=theme["soft"])
  title(figure, theme, *texts, results["runs"])
  return figure
