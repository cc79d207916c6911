"""Figures of a run, drawn for light and for dark ground."""

import pathlib
from typing import Any

THEMES = {
  "light": {
    "ground": "#ffffff",
    "ink": "#1b1d21",
    "soft": "#6a6f77",
    "grid": "#dfe2e6",
    "ours": "#0072b2",
    "peers": "#c25400",
  },
  "dark": {
    "ground": "#15171b",
    "ink": "#eceef1",
    "soft": "#9aa0a8",
    "grid": "#363b43",
    "ours": "#56b4e9",
    "peers": "#f0a03c",
  },
}
LINES = ("o-", "s-", "^-", "D-", "v-", "o--", "s--", "^--", "D--", "v--", "x-", "x--")


def draw(results: dict[str, Any], folder: pathlib.Path) -> None:
  """Those for which there are times; matplotlib is needed here only."""
  folder.mkdir(parents=True, exist_ok=True)
  for theme in THEMES:
    if results["rounds"]:
      _save(_steps(results, THEMES[theme]), folder / f"steps-{theme}.png")
    if "params" in results:
      _save(_growth(results, THEMES[theme]), folder / f"growth-{theme}.png")


def _save(figure, path: pathlib.Path) -> None:
  figure.savefig(path, dpi=130, facecolor=figure.get_facecolor())


def _canvas(theme, columns: int, width: float, height: float):
  from matplotlib.figure import Figure

  figure = Figure((width, height), facecolor=theme["ground"], layout="constrained")
  all_axes = figure.subplots(1, columns, squeeze=False)[0]
  for axes in all_axes:
    axes.set_facecolor(theme["ground"])
    axes.tick_params(colors=theme["soft"], labelcolor=theme["ink"], length=0)
    axes.grid(color=theme["grid"], linewidth=0.6)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
      side.set_visible(False)
  return figure, all_axes


def _steps(results, theme):
  """Time over the base's: every method of every model, with its interval and its gradients."""
  models = results["models"]
  names = [name for name in models[0]["rows"] if name != "base"][::-1]
  figure, all_axes = _canvas(theme, len(models), 2.6 + 2.5 * len(models), 1.2 + 0.27 * len(names))
  for axes, measured in zip(all_axes, models, strict=True):
    for y, name in enumerate(names):
      row = measured["rows"][name]
      time, shade = row["time"], theme["peers" if name.startswith("optax") else "ours"]
      axes.plot([time["low"], time["high"]], [y, y], color=shade, linewidth=3, alpha=0.5)
      axes.plot(time["median"], y, "o", color=shade, markersize=5)
      axes.plot(row["gradients"], y, "|", color=theme["ink"], markersize=11)
    axes.set_xscale("log")
    ticks = (1, 2, 4, 8, 16, 32, 64)
    last = max(row["time"]["high"] for row in measured["rows"].values())
    shown = [t for t in ticks if t <= 1.3 * last]
    axes.set_xticks(shown, [str(t) for t in shown])
    axes.minorticks_off()
    axes.set_title(measured["model"], color=theme["ink"], size=11)
    axes.set_yticks(range(len(names)), names if axes is all_axes[0] else [""] * len(names), size=9)
  figure.suptitle(
    "A step's time over the base optimizer's (dots, with intervals); gradients a step (bars)",
    color=theme["ink"],
    size=12,
  )
  return figure


def _growth(results, theme):
  figure, (own, cycle, devices) = _canvas(theme, 3, 15, 4.8)
  _lines(
    own, theme, results["params"], "name", "size", lambda row: 1e9 * row["seconds"] / row["size"]
  )
  own.set(xscale="log", yscale="log")
  own.set_title("the optimizer's own part: ns a param", color=theme["ink"], size=11)
  own.set_xlabel("params", color=theme["soft"])
  over_base = lambda row: row["time"]["median"]
  _lines(cycle, theme, results["k"], "series", "k", over_base)
  cycle.set_title("time over the base's, MLP", color=theme["ink"], size=11)
  cycle.set_xlabel("k", color=theme["soft"])
  _lines(devices, theme, results["devices"], "name", "devices", over_base)
  devices.set(xscale="log", yscale="log")
  counts = sorted({row["devices"] for row in results["devices"]})
  devices.set_xticks(counts, [str(n) for n in counts])
  devices.minorticks_off()
  devices.set_title("time over the base's, data-parallel MLP", color=theme["ink"], size=11)
  devices.set_xlabel("virtual devices of one CPU", color=theme["soft"])
  return figure


def _lines(axes, theme, rows, series: str, x: str, y_of) -> None:
  """One line for each value of ``series``."""
  from matplotlib import colormaps

  names = list(dict.fromkeys(row[series] for row in rows))
  colours = colormaps["tab20"].colors
  for i, name in enumerate(names):
    points = [(row[x], y_of(row)) for row in rows if row[series] == name]
    axes.plot(*zip(*points, strict=True), LINES[i], color=colours[i], label=name, markersize=4)
  axes.legend(fontsize=7.5, frameon=False, labelcolor=theme["ink"])
