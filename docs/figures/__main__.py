"""``python -m docs.figures [NAME ...]`` draws the method pages' figures into docs/assets/methods/."""

import sys
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from docs.figures.cases import CASES
from docs.figures.draw import draw_asam, draw_case
from experiments.plots.style import THEMES

OUT = Path(__file__).parents[1] / "assets" / "methods"


def save_small(figure: Figure, path: Path, ground: str) -> None:
  """As PNG with a palette, a third of the size."""
  figure.savefig(path, facecolor=ground)
  with Image.open(path) as image:
    image.convert("RGB").quantize(128).save(path, optimize=True)


def main(names: list[str]) -> None:
  OUT.mkdir(parents=True, exist_ok=True)
  figures = {name: partial(draw_case, name, case) for name, case in CASES.items()}
  figures["asam"] = draw_asam
  for name in names or figures:
    for suffix, theme in (("", THEMES["light"]), ("-dark", THEMES["dark"])):
      save_small(figures[name](theme), OUT / f"{name}{suffix}.png", theme["ground"])


if __name__ == "__main__":
  main(sys.argv[1:])
