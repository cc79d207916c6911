"""Figures of comparisons and runs, each drawn for light and for dark ground."""

from typing import Literal, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import summary
from experiments.plots import names
from experiments.plots.style import canvas, colour, label_of, lines_of, title


class Measure(NamedTuple):
  """What a comparison is about: a key of its rows and runs."""

  key: str  # the runs' curves hold pairs (gradients paid, this)
  label: str
  digits: int
  better: Literal["higher", "lower"]
  reference: str  # the method that the others are compared with

  def text(self, mean: float, error: float | None = None, sign: str = "") -> str:
    """With a real minus, and the error where there is one."""
    whole = f"{mean:{sign}.{self.digits}f}".replace("-", "\u2212")
    return whole + ("" if error is None else f" ± {error:.{self.digits}f}")


ACCURACY = Measure("test_accuracy", "test accuracy, %", 1, "higher", "sgd")


def ranking(results: dict, measure: Measure, texts: tuple[str, str], theme: dict) -> Figure:
  """Every method's mean, best first, beside the reference's."""
  key, error_key = measure.key, measure.key + "_error"
  best_last = 1 if measure.better == "higher" else -1
  rows = [row for row in results["table"] if row[key] is not None]
  rows.sort(key=lambda row: best_last * row[key])
  reference = next((row for row in rows if row["method"] == measure.reference), None)
  labels = [label_of(row["method"]) for row in rows]
  row_height = max(0.34, 0.19 * lines_of(labels))
  figure, axes = canvas(theme, 8, row_height * len(rows) + 1.75, top=1.05)
  ax = axes[0, 0]
  ax.grid(axis="y", visible=False)
  if reference:
    ax.axvline(reference[key], color=theme["base"], linewidth=1, linestyle=(0, (4, 3)))
  right = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "size": 9.5}
  own, beside = (8, 0), (44 if measure.digits == 1 else 56, 0)
  for y, row in enumerate(rows):
    method, mean = row["method"], row[key]
    shade = colour(theme, method)
    seeds = [run[key] for run in results["runs"][method]]
    ax.plot(seeds, [y] * len(seeds), "|", color=shade, alpha=0.6, markersize=9)
    ax.errorbar(mean, y, xerr=row[error_key] or 0, fmt="o", color=shade, ms=7, elinewidth=2.2)
    ax.annotate(
      measure.text(mean), (1, y), own, color=theme["ink"], weight="bold", va="center", **right
    )
    if method != measure.reference and row["difference"] is not None:
      difference = measure.text(row["difference"], row["difference_error"], sign="+")
      ax.annotate(difference, (1, y), beside, color=theme["soft"], va="center", **right)
  ax.annotate(
    f"minus {measure.reference}", (1, len(rows) - 0.4), beside, color=theme["soft"], **right
  )
  ax.set_yticks(range(len(rows)), labels, size=10.5)
  for tick, row in zip(ax.get_yticklabels(), rows, strict=True):
    tick.set_color(colour(theme, row["method"]))
  ax.set_ylim(-0.6, len(rows) - 0.4)
  ax.set_xlabel(measure.label, size=9.5, color=theme["soft"])
  title(figure, theme, *texts, results["runs"])
  return figure


def curves(results: dict, measure: Measure, texts: tuple[str, str], theme: dict) -> Figure:
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
    if measure.reference in paths:
      reference = paths[measure.reference]
      ax.plot(*reference.T, color=theme["base"], linewidth=1, linestyle=(0, (4, 3)))
    shade = colour(theme, method)
    ax.plot(*paths[method].T, color=shade, linewidth=2.4, solid_capstyle="round")
    ax.set_title(labels[method], loc="left", size=10.5, weight="bold", color=shade, pad=3)
    ax.set_title(
      measure.text(paths[method][-1, 1]), loc="right", size=10, color=theme["ink"], pad=3
    )
    ax.grid(axis="x", visible=False)
    ax.tick_params(labelbottom=i + columns >= len(runs))
  ends = np.concatenate([path[:, 1] for path in paths.values()])
  if measure.better == "higher":
    ax.set_ylim(max(0, ends.max() - 20), ends.max() + 1.5)
  else:
    low, high = np.nanmin(ends), np.nanquantile(ends, 0.8)
    ax.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
  figure.supxlabel("gradients paid", size=9.5, color=theme["soft"])
  figure.supylabel(measure.label.replace(", nats", ",\nnats"), size=9.5, color=theme["soft"])
  title(figure, theme, *texts, runs)
  return figure


def lifelong(results: dict, texts: tuple[str, str], theme: dict[str, str]) -> Figure:
  """Average accuracy and forgetting after each task: a line a method, the first one dashed."""
  figure, axes = canvas(theme, 8, 4.2, 1.05, columns=2)
  figure.get_layout_engine().set(wspace=0.06)
  count = max(len(run["accuracy"]) for runs in results["runs"].values() for run in runs)
  panels = ("average_accuracy", "average accuracy, %", 1), ("forgetting", "forgetting, points", 2)
  for ax, (key, label, first) in zip(axes.flat, panels, strict=True):
    ends, tasks = {}, range(first, count + 1)
    for i, (method, runs) in enumerate(results["runs"].items()):
      values_TxS = np.transpose([run["curves"][key] for run in runs])
      means, errors = zip(*map(summary.mean_and_error, values_TxS), strict=True)
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
    names.beside(ax, ends, theme)
  figure.supxlabel("tasks learned", size=9.5, color=theme["soft"])
  title(figure, theme, *texts, results["runs"])
  return figure


def flatness(results: dict, measures: dict[str, str], theme: dict[str, str]) -> Figure:
  """Test accuracy against every measure of sharpness: a panel a measure, by key and label."""
  columns = 2
  rows = -(-len(measures) // columns)
  figure, axes = canvas(theme, 8, 2.7 * rows + 1.1, 1.05, rows, columns, sharey=True)
  panels = list(axes.flat)
  for ax in panels[len(measures) :]:
    ax.set_visible(False)
  for ax, (key, label) in zip(panels, measures.items(), strict=False):
    points = [row for row in results["table"] if row[key] is not None]
    ax.grid(axis="y", visible=False)
    ax.set_title(label, loc="left", size=9.5, color=theme["ink"], pad=3)
    ax.margins(x=0.2, y=0.12)
    for row in points:
      errors = {"xerr": row[key + "_error"] or 0, "yerr": row["test_accuracy_error"] or 0}
      shade = colour(theme, row["method"])
      ax.errorbar(
        row[key], row["test_accuracy"], fmt="o", color=shade, ms=6, elinewidth=1.2, **errors
      )
    _name_where_there_is_room(
      ax, [(r[key], r["test_accuracy"], r["method"]) for r in points], theme
    )
  figure.supylabel("test accuracy, %", size=9.5, color=theme["soft"])
  subtitle = (
    "Means and standard errors over seeds. Further left is flatter. Names where there is room."
  )
  title(figure, theme, "Measures of sharpness, and test accuracy", subtitle, results["runs"])
  return figure


def _name_where_there_is_room(ax, points: list[tuple[float, float, str]], theme: dict) -> None:
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


def run_curves(
  rows: dict[str, list[dict]], texts: tuple[str, str], theme: dict[str, str]
) -> Figure:
  """Loss and accuracy of one run: training batches behind, the test set before them."""
  figure, axes = canvas(theme, 8, 3.6, 0.8, columns=2)
  for ax, name in zip(axes.flat, ("loss", "accuracy, %"), strict=True):
    for split, shade, width in (("train", "soft", 1.0), ("test", "before the base", 2.4)):
      points = [(row["gradients"], row[name.split(",")[0]]) for row in rows[split]]
      if points:
        ax.plot(*zip(*points, strict=True), color=theme[shade], linewidth=width)
    ax.set_title(name, loc="left", size=10.5, color=theme["ink"], pad=3)
    ax.grid(axis="x", visible=False)
  figure.supxlabel("gradients paid", size=9.5, color=theme["soft"])
  title(figure, theme, *texts)
  return figure
