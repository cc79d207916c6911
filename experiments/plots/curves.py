"""Curves over the gradients paid, of a comparison and of one run."""

import numpy as np
from matplotlib.figure import Figure

from experiments.measures.score import Score
from experiments.plots.style import canvas, colour, label_of, lines_of, title


def curves(results: dict, score: Score, texts: tuple[str, str], theme: dict) -> Figure:
  """The measure against gradients paid: a panel a method, the others behind it."""
  runs = results["runs"]
  curve_of = lambda run: np.array(run["curve"], np.float64)  # None, where it diverged, is NaN
  paths = {m: np.mean([curve_of(run) for run in seeds], axis=0) for m, seeds in runs.items()}
  labels = {method: label_of(method, room=14) for method in runs}
  lines = lines_of(labels.values())
  rows = -(-len(runs) // (4 if lines == 1 else 3))
  columns = -(-len(runs) // rows)
  height = (1.37 + 0.18 * lines) * rows + 1.8
  figure, axes = canvas(theme, 8, height, 1.05, rows, columns, sharex=True, sharey=True)
  figure.get_layout_engine().set(wspace=0.04)
  panels = list(axes.flat)
  for ax in panels[len(runs) :]:
    ax.set_visible(False)
  for i, (ax, method) in enumerate(zip(panels, runs, strict=False)):
    for path in paths.values():
      ax.plot(*path.T, color=theme["line"], linewidth=1.2)
    if score.reference in paths:
      reference = paths[score.reference]
      ax.plot(*reference.T, color=theme["base"], linewidth=1, linestyle=(0, (4, 3)))
    shade = colour(theme, method)
    ax.plot(*paths[method].T, color=shade, linewidth=2.4, solid_capstyle="round")
    ax.set_title(labels[method], loc="left", size=10.5, weight="bold", color=shade, pad=3)
    ax.set_title(score.text(paths[method][-1, 1]), loc="right", size=10, color=theme["ink"], pad=3)
    ax.grid(axis="x", visible=False)
    ax.tick_params(labelbottom=i + columns >= len(runs))
  ends = np.concatenate([path[:, 1] for path in paths.values()])
  if score.better == "higher":
    ax.set_ylim(max(0, ends.max() - 20), ends.max() + 1.5)
  else:
    low, high = np.nanmin(ends), np.nanquantile(ends, 0.8)
    ax.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
  figure.supxlabel("gradients paid", size=9.5, color=theme["soft"])
  figure.supylabel(score.label.replace(", nats", ",\nnats"), size=9.5, color=theme["soft"])
  title(figure, theme, *texts, runs)
  return figure


def run_curves(
  rows: dict[str, list[dict]], texts: tuple[str, str], theme: dict[str, str]
) -> Figure:
  """Loss and accuracy of one run: thin lines of training batches, thick ones of evaluations."""
  figure, axes = canvas(theme, 8, 3.6, 0.8, columns=2)
  for ax, name in zip(axes.flat, ("loss", "accuracy, %"), strict=True):
    drawn = zip(rows.values(), ("soft", "before the base"), (1.0, 2.4), strict=True)
    for split, shade, width in drawn:
      points = [(row["gradients"], row[name.split(",")[0]]) for row in split]
      if points:
        ax.plot(*zip(*points, strict=True), color=theme[shade], linewidth=width)
    ax.set_title(name, loc="left", size=10.5, color=theme["ink"], pad=3)
    ax.grid(axis="x", visible=False)
  figure.supxlabel("gradients paid", size=9.5, color=theme["soft"])
  title(figure, theme, *texts)
  return figure
