"""The loss that runs of different lengths end at."""

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from experiments.plots.style import canvas, colour, title


def final_loss(found: dict, theme: dict[str, str]) -> Figure:
  """Each method's final loss against the gradients of a run, and an arrow to the reference's.

  The gradients are on a logarithmic axis, on which the reference is interpolated along its lines.
  """
  figure, axes = canvas(theme, 8, 4.2, top=0.8)
  ax, reference = axes[0, 0], found["reference"]
  ax.set_xscale("log")
  ax.margins(x=0.08, y=0.12)
  for method in dict.fromkeys(row["method"] for row in found["rows"]):
    rows = [row for row in found["rows"] if row["method"] == method]
    paid, losses = [row["gradients"] for row in rows], [row["loss"] for row in rows]
    errors = [row["loss_error"] or 0 for row in rows]
    shade = colour(theme, method)
    ax.errorbar(paid, losses, errors, fmt="o-", color=shade, ms=6, linewidth=1.6)
    at = (paid[-1], losses[-1])
    # Below the reference's line, which falls, where the arrow's text is above it.
    offset, side = ((8, 6), "left") if method == reference else ((-8, -14), "right")
    ax.annotate(method, at, offset, textcoords="offset points", ha=side, color=shade, weight="bold")
    for row in rows if method != reference else ():
      if row["speed_up"] is not None:
        _arrow(ax, row, theme)
  ticks = sorted({row["gradients"] for row in found["rows"]})
  ax.set_xticks(ticks)
  ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
  ax.xaxis.set_minor_locator(NullLocator())
  ax.set_xlabel("gradients of a run (logarithmic)", size=9.5, color=theme["soft"])
  ax.set_ylabel("test loss, nats", size=9.5, color=theme["soft"])
  seeds = min(row["n"] for row in found["rows"])
  texts = (
    f"{found['config']['name']}: gradients to the same loss",
    f"Ends of runs with schedules of their own; mean and standard error of {seeds} seeds.",
  )
  title(figure, theme, *texts)
  return figure


def _arrow(ax, row, theme):
  end = row["in_gradients"] * row["gradients"]
  ax.annotate(
    "",
    (end, row["loss"]),
    (row["gradients"], row["loss"]),
    arrowprops={"arrowstyle": "->", "color": theme["soft"]},
  )
  error = f" ± {row['speed_up_error']:.2f}" if row["speed_up_error"] else ""
  text = f"{row['in_gradients']:.2f} times the gradients,\n{row['speed_up']:.2f}{error} the steps"
  ax.annotate(
    text,
    (max(row["gradients"], end), row["loss"]),
    (6, 8),  # above the reference's line, which falls
    textcoords="offset points",
    va="bottom",
    size=9.5,
    color=theme["ink"],
  )
