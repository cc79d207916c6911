"""The loss that runs of different lengths end at."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from experiments.plots.style import canvas, colour, title


def final_loss(found: dict, theme: dict[str, str]) -> Figure:
  """Each method's final loss against its steps; an arrow from a run to the reference's steps."""
  figure, axes = canvas(theme, 8, 4.2, top=0.8)
  ax, reference = axes[0, 0], found["reference"]
  ax.set_xscale("log")
  ax.margins(x=0.08, y=0.12)
  for method in dict.fromkeys(row["method"] for row in found["rows"]):
    rows = [row for row in found["rows"] if row["method"] == method]
    steps, losses = [row["steps"] for row in rows], [row["loss"] for row in rows]
    errors = [row["loss_error"] or 0 for row in rows]
    shade = colour(theme, method)
    ax.errorbar(steps, losses, errors, fmt="o-", color=shade, ms=6, linewidth=1.6)
    at = (steps[-1], losses[-1])
    ax.annotate(method, at, (8, 6), textcoords="offset points", color=shade, weight="bold")
    for row in rows if method != reference else ():
      if row["speed_up"] is not None:
        _arrow(ax, row, theme)
  ticks = sorted({row["steps"] for row in found["rows"]})
  ax.set_xticks(ticks)
  ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
  ax.xaxis.set_minor_locator(NullLocator())
  ax.set_xlabel("steps of a run", size=9.5, color=theme["soft"])
  ax.set_ylabel("test loss, nats", size=9.5, color=theme["soft"])
  seeds = min(row["n"] for row in found["rows"])
  texts = (
    f"{found['config']['name']}: steps to the same loss",
    f"Ends of runs with schedules of their own; mean and standard error of {seeds} seeds.",
  )
  title(figure, theme, *texts)
  return figure


def _arrow(ax, row, theme):
  end = row["steps"] * row["speed_up"]
  ax.annotate(
    "",
    (end, row["loss"]),
    (row["steps"], row["loss"]),
    arrowprops={"arrowstyle": "->", "color": theme["soft"]},
  )
  middle = float(np.sqrt(row["steps"] * end))
  error = f" ± {row['speed_up_error']:.2f}" if row["speed_up_error"] else ""
  text = f"{row['speed_up']:.2f}{error} times the steps"
  ax.annotate(
    text,
    (middle, row["loss"]),
    (0, -13),
    textcoords="offset points",
    ha="center",
    size=9.5,
    color=theme["ink"],
  )
