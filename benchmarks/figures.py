"""Draws the figures of a run, for a light and for a dark background."""

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
  """Draws the figures for which the results have times. Only this module needs matplotlib."""
  folder.mkdir(parents=True, exist_ok=True)
  for theme in THEMES:
    if results["rounds"]:
      _save(_steps(results, THEMES[theme]), folder / f"steps-{theme}.png")
    if "params" in results:
      _save(_growth(results, THEMES[theme]), folder / f"growth-{theme}.png")


def _save(figure, path: pathlib.Path) -> None:
  figure.savefig(path, dpi=130, facecolor=figure.get_facecolor())


def _canvas(theme, columns: int, width: float, height: float):
  """Makes a figure with a row of axes in the style of the theme."""
  from matplotlib.figure import Figure

  figure = Figure((width, height), facecolor=theme["ground"], layout="constrained")
  all_axes = figure.subplots(1, columns, squeeze=False)[0]
  for axes in all_axes:
    axes.set_facecolor(theme["ground"])
    axes.tick_params(which="both", colors=theme["soft"], labelcolor=theme["ink"], length=0)
    axes.grid(color=theme["grid"], linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
  return figure, all_axes


def _steps(results, theme):
  """Draws the relative time of every method on every model, with its interval and gradients."""
  models = results["models"]
  names = [name for name in models[0]["rows"] if name != "base"][::-1]
  figure, all_axes = _canvas(theme, len(models), 3 + 2.4 * len(models), 1.4 + 0.27 * len(names))
  for axes, measured in zip(all_axes, models, strict=True):
    for y, name in enumerate(names):
      row = measured["rows"][name]
      time, shade = row["time"], theme["peers" if name.startswith("optax") else "ours"]
      axes.plot([time["low"], time["high"]], [y, y], color=shade, linewidth=3, alpha=0.5)
      axes.plot(time["median"], y, "o", color=shade, markersize=5)
      axes.plot(row["gradients"], y, "|", color=theme["ink"], markersize=11)
    times = [row["time"] for name, row in measured["rows"].items() if name != "base"]
    low, high = min(t["low"] for t in times), max(t["high"] for t in times)
    axes.set_xscale("log")
    axes.set_xlim(min(0.9, 0.95 * low), 1.1 * max(high, 2))
    _ticks(axes, [t for t in (1, 2, 4, 8, 16, 32, 64) if t <= 1.1 * high])
    axes.set_title(measured["model"], color=theme["ink"], size=10)
    axes.set_yticks(range(len(names)), names if axes is all_axes[0] else [""] * len(names), size=9)
  title = "Time of a step / time of the base's step. Black bars: gradients per step, on average."
  figure.suptitle(title, color=theme["ink"], size=11, x=0.02, ha="left")
  return figure


def _growth(results, theme):
  """Draws how costs grow with params, with the length of a cycle and with devices."""
  figure, (own, cycle, devices) = _canvas(theme, 3, 13, 5.8)
  ns_a_param = lambda row: 1e9 * row["seconds"] / row["size"]
  _lines(own, theme, results["params"], "name", "size", ns_a_param)
  own.set_title("time without gradients, ns per param", color=theme["ink"], size=10)
  own.set_xlabel("params", color=theme["soft"])
  over_base = lambda row: row["time"]["median"]
  _lines(cycle, theme, results["k"], "series", "k", over_base)
  _ticks(cycle, sorted({row["k"] for row in results["k"]}))
  cycle.set_title("MLP, time / time of the base", color=theme["ink"], size=10)
  cycle.set_xlabel("k", color=theme["soft"])
  methods = [row for row in results["devices"] if row["name"] != "base"]
  _lines(devices, theme, methods, "name", "devices", over_base)
  _ticks(devices, sorted({row["devices"] for row in methods}))
  devices.set_title("MLP, split batch, time / time of the base", color=theme["ink"], size=10)
  devices.set_xlabel("virtual devices of one CPU", color=theme["soft"])
  return figure


def _ticks(axes, values: list[int]) -> None:
  axes.set_xticks(values, [str(value) for value in values])
  axes.minorticks_off()


def _lines(axes, theme, rows, series: str, x: str, y_of) -> None:
  """Draws one line for each value of ``series``, on logarithmic axes, with the legend below."""
  from matplotlib import colormaps
  from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

  names = list(dict.fromkeys(row[series] for row in rows))
  for i, name in enumerate(names):
    points = [(row[x], y_of(row)) for row in rows if row[series] == name]
    shade = colormaps["tab10"].colors[i % 10]
    axes.plot(*zip(*points, strict=True), LINES[i], color=shade, label=name, markersize=4)
  axes.set(xscale="log", yscale="log")
  axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
  axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
  axes.yaxis.set_minor_locator(NullLocator())
  axes.tick_params(which="both", labelsize=8)
  axes.legend(
    fontsize=8,
    frameon=False,
    labelcolor=theme["ink"],
    ncols=2,
    loc="upper center",
    bbox_to_anchor=(0.5, -0.14),
  )
