"""The figure of the front page, from kept results: what methods add to the best SGD.

python -m experiments.plots.front docs/assets
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.config import files
from experiments.plots.style import canvas, colour, save_all

RESULTS = Path(__file__).parents[1] / "results"
FREE = "2026-11-29-one-gradient-a-step/fashion-mnist"
DASHES = {"adamw": ":", "muon": "-."}


class Panel(NamedTuple):
  """One data set, and the comparisons on it whose rows ``frontier`` made."""

  title: str
  subtitle: str
  on_sgd: tuple[str, ...]
  others: dict[str, str]  # by their base


PANELS = (
  Panel(
    "MNIST-5k",
    "40 % of labels wrong",
    ("2026-11-29-tuned-alike/tuned-800",),
    {"adamw": "2026-11-29-tuned-alike/again/on-adamw"},
  ),
  Panel(
    "Fashion-MNIST",
    "labels right, 100 epochs",
    ("2026-11-29-fashion-mnist-fitted/on-sgd", f"{FREE}/on-sgd"),
    {"adamw": "2026-11-29-fashion-mnist-fitted/on-adamw", "muon": f"{FREE}/on-muon"},
  ),
)
# Labels, in a fixed order because the errors do not rank the methods, and their names in the files.
ROWS = {
  "sam": ("sam",),
  "asam": ("asam",),
  "rst": ("rst", "rst:probability=0.5"),
  "g_rst": ("g_rst",),
  "sala": ("sala", "sala:sync_period=5"),
  "lookbehind": ("lookbehind", "lookbehind:ascent_steps=2"),
  "sam + ire": ("sam_ire",),
  "ire(rho)": ("ire_rho",),
  "ae_sam": ("ae_sam", "ae_sam:rho=0.2"),
  "part of a batch": ("partial_sam:share=0.25", "partial_sam:share=0.25,rho=0.2"),
  "momentum_sam": ("momentum_sam",),
  "late quarter": ("late_sam:start=0.75", "late_sam:start=0.75,rho=0.2"),
  "every 4th step": ("periodic_sam:interval=4", "periodic_sam:interval=4,rho=0.2"),
  "lookahead": ("lookahead",),
  "ire": ("ire", "ire:kappa=1,start=0.667,flat_fraction=0.8"),
  "swa": ("weight_average", "weight_average:start=0.5"),
  "looksam": ("looksam", "looksam:rho=0.2"),
}


def rows_of(*comparisons: str) -> list[dict[str, Any]]:
  return [
    row for one in comparisons for row in files.read_json(RESULTS / one / "frontier.json")["rows"]
  ]


def row_of(panel: Panel, names: tuple[str, ...]) -> dict[str, Any] | None:
  """The panel's first row of one of ``names``, by label or method."""
  found = (row for row in rows_of(*panel.on_sgd) if {row["method"], row["label"]} & {*names})
  return next(found, None)


def best(panel: Panel, base: str) -> float:
  """The best of another base alone, minus the best SGD."""
  alone = lambda base, *comparisons: max(
    row["test_accuracy"] for row in rows_of(*comparisons) if row["method"].partition(":")[0] == base
  )
  return alone(base, panel.others[base]) - alone("sgd", *panel.on_sgd)


def both_errors(row: dict[str, Any]) -> float:
  """The standard error over seeds and over test examples together."""
  return float(np.hypot(row["difference_error"], row["difference_test_error"]))


def front(theme: dict[str, str]) -> Figure:
  figure, axes = canvas(theme, 6, 6.0, 1.0, columns=2, sharey=True)
  figure.get_layout_engine().set(wspace=0.06)
  for ax, panel in zip(axes.flat, PANELS, strict=True):
    ax.axvline(0, color=theme["base"], linewidth=1.4, linestyle=(0, (4, 3)))
    ax.grid(axis="y", visible=False)
    for y, names in enumerate(ROWS.values()):
      if (row := row_of(panel, names)) is None:
        continue
      shade = colour(theme, row["method"])
      ax.errorbar(row["difference"], y, xerr=2 * both_errors(row), color=shade, elinewidth=1)
      ax.errorbar(
        row["difference"], y, xerr=row["difference_error"], fmt="o", color=shade, ms=7, elinewidth=3
      )
    for base in panel.others:
      ax.axvline(best(panel, base), color=theme["soft"], linewidth=1.4, linestyle=DASHES[base])
    ax.set_title(f"{panel.title}\n{panel.subtitle}", loc="left", size=12, color=theme["ink"], pad=6)
    ax.margins(x=0.12)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.tick_params(labelsize=12)
  axes[0, 0].set_yticks(range(len(ROWS)), ROWS)
  for tick, names in zip(axes[0, 0].get_yticklabels(), ROWS.values(), strict=True):
    tick.set_color(colour(theme, names[0]))
  axes[0, 0].set_ylim(len(ROWS) - 0.4, -0.6)
  figure.supxlabel("test accuracy minus the best SGD's, points", size=12, color=theme["soft"])
  heading = "What methods add to the best SGD"
  figure.text(0.015, 0.935, heading, size=15, weight="bold", color=theme["ink"])
  said = "SGD of as many gradients or fewer; dotted: AdamW, dash-dotted: Muon"
  figure.text(0.015, 0.885, said, size=11, color=theme["soft"])
  return figure


if __name__ == "__main__":
  save_all({"demo": front}, Path(sys.argv[1]))
