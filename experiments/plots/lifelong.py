"""Average accuracy and forgetting over tasks."""

import numpy as np
from matplotlib.figure import Figure

from experiments.measures import statistics
from experiments.plots import line_names
from experiments.plots.style import canvas, colour, title


def kept_and_lost(results: dict, texts: tuple[str, str], theme: dict[str, str]) -> Figure:
  """Average accuracy and forgetting after each task: a line a method, the first one dashed."""
  figure, axes = canvas(theme, 8, 4.2, 1.05, columns=2)
  figure.get_layout_engine().set(wspace=0.06)
  count = max(len(run["accuracy"]) for runs in results["runs"].values() for run in runs)
  panels = ("average_accuracy", "average accuracy, %", 1), ("forgetting", "forgetting, points", 2)
  for ax, (key, label, first) in zip(axes.flat, panels, strict=True):
    ends, tasks = {}, range(first, count + 1)
    for i, (method, runs) in enumerate(results["runs"].items()):
      values_TxS = np.transpose([run["curves"][key] for run in runs])
      means, errors = zip(*map(statistics.mean_and_error, values_TxS), strict=True)
      ends[method] = means[-1]
      ax.errorbar(
        tasks,
        means,
        yerr=[error or 0 for error in errors],
        color=colour(theme, method),
        marker="o",
        markersize=4,
        linewidth=2.2,
        elinewidth=1.2,
        linestyle="-" if i else (0, (4, 3)),
      )
    ax.set_title(label, loc="left", size=10.5, color=theme["ink"], pad=3)
    ax.set_xticks(tasks)
    ax.grid(axis="x", visible=False)
    line_names.beside(ax, ends, theme)
  figure.supxlabel("tasks learned", size=9.5, color=theme["soft"])
  title(figure, theme, *texts, results["runs"])
  return figure
