"""The style of all figures: light and dark themes, colours of methods, canvas, title."""

from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.methods import place_and_colours

# A method's colour shows its place relative to the base optimizer. The hues are Okabe and Ito's,
# which colour-blind readers can distinguish, in shades with enough contrast to the background.
PLACES = "base", "before the base", "after the base", "around the base"
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
  place, own = place_and_colours(method)
  return theme[place] if own is None else own[theme is THEMES["dark"]]


def place(method: str) -> str:
  return place_and_colours(method)[0]


def label_of(method: str, room: int = 24) -> str:
  """A method's name; if it has more than ``room`` characters, its settings go below it."""
  return method if len(method) <= room else method.replace(":", "\n", 1).replace(",", "\n")


def lines_of(labels: Iterable[str]) -> int:
  """The number of lines of the tallest label."""
  return max(1 + label.count("\n") for label in labels)


def canvas(theme, width, height, top, rows=1, columns=1, **options):
  """A figure whose axes leave ``top`` inches free for the title."""
  figure = Figure((width, height), dpi=150, facecolor=theme["ground"], layout="constrained")
  FigureCanvasAgg(figure)
  figure.get_layout_engine().set(rect=(0, 0.01, 0.99, 1 - top / height))
  axes = figure.subplots(rows, columns, squeeze=False, **options)
  for ax in axes.flat:
    ax.set_facecolor(theme["ground"])
    ax.spines[:].set_visible(False)
    ax.tick_params(which="both", colors=theme["soft"], labelsize=9, length=0)
    ax.grid(color=theme["line"], linewidth=0.8)
    ax.set_axisbelow(True)
  return figure, axes


def title(figure, theme, text, subtitle, methods=()):
  """At the left edge, where reading starts, above a key of the methods' colours in words."""
  width, height = figure.get_size_inches()
  figure.text(0.02 / width, 1 - 0.34 / height, text, size=13, weight="bold", color=theme["ink"])
  figure.text(0.02 / width, 1 - 0.6 / height, subtitle, size=9.5, color=theme["soft"])
  x = 0.02
  found = {place(method) for method in methods}
  for word in (name for name in PLACES if name in found):
    figure.text(x / width, 1 - 0.86 / height, word, size=9.5, weight="bold", color=theme[word])
    x += 0.085 * len(word) + 0.22


def save_all(figures: dict[str, Callable[[dict], Figure]], out: Path) -> None:
  """NAME.png and NAME-dark.png of each, whose texts are taken literally, dollars included."""
  with matplotlib.rc_context({"text.parse_math": False}):
    for name, draw in figures.items():
      for suffix, theme in (("", THEMES["light"]), ("-dark", THEMES["dark"])):
        draw(theme).savefig(out / f"{name}{suffix}.png", facecolor=theme["ground"])
