"""Figures of comparisons and runs, each drawn for light and for dark ground."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# A method's colour tells where it stands relative to the base optimizer. Okabe and Ito's hues,
# which colour-blind readers tell apart, each in a shade that its ground carries.
PLACES = {
  "base": ("sgd", "adamw"),
  "before the base": (
    *("sam", "asam", "rst", "g_rst", "ire(rho)"),
    *("gsam", "looksam", "friendly_sam"),
  ),
  "after the base": ("ire", "sam+ire"),
  "around the base": ("lookahead", "sala", "lookbehind", "momentum_sam"),
}
THEMES = {
  "light": {
    "ground": "#ffffff",
    "ink": "#1b1d21",
    "soft": "#6a6f77",
    "line": "#dfe2e6",
    "base": "#1b1d21",
    "before the base": "#0072b2",
    "after the base": "#a8437a",
    "around the base": "#c25400",
  },
  "dark": {
    "ground": "#15171b",
    "ink": "#eceef1",
    "soft": "#9aa0a8",
    "line": "#363b43",
    "base": "#eceef1",
    "before the base": "#56b4e9",
    "after the base": "#e391bd",
    "around the base": "#f0a03c",
  },
}


def colour(theme: dict[str, str], method: str) -> str:
  return next(theme[place] for place, methods in PLACES.items() if method in methods)


def canvas(theme, width, height, top, rows=1, columns=1, **options):
  """A figure whose axes leave ``top`` inches free for the title."""
  figure = Figure((width, height), dpi=150, facecolor=theme["ground"], layout="constrained")
  FigureCanvasAgg(figure)
  figure.get_layout_engine().set(rect=(0, 0.01, 0.99, 1 - top / height))
  axes = figure.subplots(rows, columns, squeeze=False, **options)
  for ax in axes.flat:
    ax.set_facecolor(theme["ground"])
    ax.spines[:].set_visible(False)
    ax.tick_params(colors=theme["soft"], labelsize=9, length=0)
    ax.grid(color=theme["line"], linewidth=0.8)
    ax.set_axisbelow(True)
  return figure, axes


def title(figure, theme, text, subtitle, key=tuple(PLACES)):
  """At the left edge, where reading starts, above a key of coloured words."""
  width, height = figure.get_size_inches()
  figure.text(0.02 / width, 1 - 0.34 / height, text, size=13, weight="bold", color=theme["ink"])
  figure.text(0.02 / width, 1 - 0.6 / height, subtitle, size=9.5, color=theme["soft"])
  x = 0.02
  for place in key:
    figure.text(x / width, 1 - 0.86 / height, place, size=9.5, weight="bold", color=theme[place])
    x += 0.085 * len(place) + 0.22


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
  figure, axes = canvas(theme, 8, 0.34 * len(rows) + 1.75, top=1.05)
  ax = axes[0, 0]
  ax.grid(axis="y", visible=False)
  if reference:
    ax.axvline(reference[key], color=theme["base"], linewidth=1, linestyle=(0, (4, 3)))
  right = {"xycoords": ("axes fraction", "data"), "va": "center", "size": 9.5}
  beside = 1.09 if measure.digits == 1 else 1.12
  for y, row in enumerate(rows):
    method, mean = row["method"], row[key]
    shade = colour(theme, method)
    seeds = [run[key] for run in results["runs"][method]]
    ax.plot(seeds, [y] * len(seeds), "|", color=shade, alpha=0.6, markersize=9)
    ax.errorbar(mean, y, xerr=row[error_key] or 0, fmt="o", color=shade, ms=7, elinewidth=2.2)
    ax.annotate(measure.text(mean), (1.02, y), color=theme["ink"], weight="bold", **right)
    if method != measure.reference and row["difference"] is not None:
      difference = measure.text(row["difference"], row["difference_error"], sign="+")
      ax.annotate(difference, (beside, y), color=theme["soft"], **right)
  ax.annotate(f"minus {measure.reference}", (beside, len(rows) - 0.2), color=theme["soft"], **right)
  ax.set_yticks(range(len(rows)), [row["method"] for row in rows], size=10.5)
  for label, row in zip(ax.get_yticklabels(), rows, strict=True):
    label.set_color(colour(theme, row["method"]))
  ax.set_ylim(-0.6, len(rows) - 0.4)
  ax.set_xlabel(measure.label, size=9.5, color=theme["soft"])
  title(figure, theme, *texts)
  return figure


def curves(results: dict, measure: Measure, texts: tuple[str, str], theme: dict) -> Figure:
  """The measure against gradients paid: a panel a method, the others behind it."""
  runs = results["runs"]
  paths = {m: np.mean([run["curve"] for run in seeds], axis=0) for m, seeds in runs.items()}
  columns = min(4, len(runs))
  rows = -(-len(runs) // columns)
  figure, axes = canvas(theme, 8, 1.7 * rows + 1.3, 1.05, rows, columns, sharex=True, sharey=True)
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
    ax.set_title(method, loc="left", size=10.5, weight="bold", color=shade, pad=3)
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
  figure.supylabel(measure.label, size=9.5, color=theme["soft"])
  title(figure, theme, *texts)
  return figure


def sharpness(results: dict, config: dict, theme: dict[str, str]) -> Figure:
  """Test accuracy against the loss increase under the same perturbation for all."""
  rows = [row for row in results["table"] if row["loss_increase"] is not None]
  rows.sort(key=lambda row: row["test_accuracy"])
  figure, axes = canvas(theme, 8, 4.9, top=1.05)
  ax = axes[0, 0]
  ax.grid(axis="y", visible=False)
  for row in rows:
    ax.errorbar(
      row["loss_increase"],
      row["test_accuracy"],
      xerr=row["loss_increase_error"] or 0,
      yerr=row["test_accuracy_error"] or 0,
      fmt="o",
      color=colour(theme, row["method"]),
      markersize=7,
      elinewidth=1.2,
    )
  ax.set_xlabel(
    f"loss increase under SAM's perturbation, rho = {config['sharpness_rho']}",
    size=9.5,
    color=theme["soft"],
  )
  ax.set_ylabel("test accuracy, %", size=9.5, color=theme["soft"])
  # The names stand in the right margin, pushed apart as far as a line of text needs.
  low, high = ax.get_ylim()
  heights = np.array([row["test_accuracy"] for row in rows])
  gap = 0.058 * (high - low)
  for i in range(1, len(rows)):
    heights[i] = max(heights[i], heights[i - 1] + gap)
  for i in reversed(range(len(rows))):
    ceiling = high - gap * (len(rows) - 1 - i)
    heights[i] = min(heights[i], ceiling)
  for row, height in zip(rows, heights, strict=True):
    shade = colour(theme, row["method"])
    ax.annotate(
      row["method"],
      (row["loss_increase"], row["test_accuracy"]),
      (1.03, height),
      textcoords=("axes fraction", "data"),
      va="center",
      size=10,
      color=shade,
      arrowprops={"arrowstyle": "-", "color": shade, "alpha": 0.35, "linewidth": 0.8},
    )
  ax.set_ylim(low, high)
  subtitle = "Means and standard errors over seeds. Further left is flatter. One radius for all."
  title(figure, theme, "Sharpness and test accuracy", subtitle)
  return figure


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
  title(figure, theme, *texts, key=())
  return figure


def save_all(figures: dict[str, Callable[[dict], Figure]], out: Path) -> None:
  """NAME.png and NAME-dark.png of each."""
  for name, draw in figures.items():
    for suffix, theme in (("", THEMES["light"]), ("-dark", THEMES["dark"])):
      draw(theme).savefig(out / f"{name}{suffix}.png", facecolor=theme["ground"])
