"""Tuned rhos of several tasks, and what SAM's perturbation does at them."""

import numpy as np
from matplotlib.figure import Figure

from experiments.plots.style import canvas, title

LABELS = {
  "angle": "angle of the two gradients",
  "change": "change of the gradient",
  "relative_rise": "rise of the loss, relative",
  "rise": "rise of the loss",
  "first_order": "first-order rise, relative",
  "rho_over_params": "rho over the params",
  "rho_over_step": "rho over the step",
}
MOMENTS = {  # of a run, and its share of the steps
  ("base", 0.0): ("at init", "before the base"),
  ("base", 1.0): ("after the base's run", "around the base"),
  ("own", 0.1): ("after a tenth of SAM's", "after the base"),
}


def draw(tasks: list[dict], found: dict, theme: dict[str, str]) -> Figure:
  """The optimum of each task, and each quantity at it, over the geometric mean of the tasks."""
  figure, axes = canvas(theme, 11, 5.2, top=0.95, columns=2, width_ratios=(1, 1.35))
  for ax in axes.flat:
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()
  _optima(axes[0, 0], tasks, found, theme)
  _spreads(axes[0, 1], found, theme)
  texts = (
    "The tuned rho, and what the perturbation does at it",
    "Left: chosen, and within a point of the best held-out accuracy. Right: each dot a task.",
  )
  title(figure, theme, *texts)
  width, height = figure.get_size_inches()
  for i, (words, colour) in enumerate(MOMENTS.values()):
    at = (5.3 + (0, 0.85, 2.6)[i]) / width
    figure.text(at, 1 - 0.86 / height, words, size=9.5, weight="bold", color=theme[colour])
  return figure


def _optima(ax, tasks, found, theme):
  tasks = sorted(tasks, key=lambda task: (task["name"] not in found["rho"], task["rho"]))
  for i, task in enumerate(tasks):
    name = task["name"]
    shade = theme["ink"] if name in found["rho"] else theme["soft"]
    low, high = found["width"].get(name, [task["rho"]] * 2)
    ax.plot([low, high], [i, i], color=shade, linewidth=3, alpha=0.35, solid_capstyle="round")
    filled = theme["ground"] if task["aside"] else shade
    ax.plot(task["rho"], i, "o", color=shade, mfc=filled, ms=7)
  said = lambda t: "aside" if t["name"] in found["rho"] else "no gain"
  plain = lambda t: t["name"] in found["rho"] and not t["aside"]
  names = [t["name"] if plain(t) else f"{t['name']} ({said(t)})" for t in tasks]
  ax.set_yticks(range(len(tasks)), names, size=9.5, color=theme["ink"])
  ax.invert_yaxis()
  ax.set_xticks([0.02, 0.05, 0.1, 0.2, 0.5, 1.0])
  ax.set_xlabel("rho", size=9.5, color=theme["soft"])


def _spreads(ax, found, theme):
  rows = {(row["quantity"], row["run"], row["share"]): row for row in found["rows"]}
  aside = {row["task"] for row in found["mean"]["tasks"] if row["aside"]}

  def spread(values, place, colour):
    fitted = [x for name, x in values.items() if name not in aside]
    centre = np.exp(np.mean(np.log(fitted)))
    for name, x in values.items():
      filled = theme["ground"] if name in aside else theme[colour]
      ax.plot(x / centre, place, "o", color=theme[colour], mfc=filled, ms=5, alpha=0.85)
    text = f"{max(fitted) / min(fitted):.1f} times"
    ax.text(
      1.01,
      place,
      text,
      size=8.5,
      color=theme[colour],
      transform=ax.get_yaxis_transform(),
      va="center",
    )

  spread(found["rho"], 0, "ink")
  for i, quantity in enumerate(LABELS, start=1):
    for k, (moment, (_, colour)) in enumerate(MOMENTS.items()):
      if row := rows.get((quantity, *moment)):
        spread(row["values"], i + 0.27 * (k - 1), colour)
  ax.set_yticks(
    range(1 + len(LABELS)), ["rho itself", *LABELS.values()], size=9.5, color=theme["ink"]
  )
  ax.set_ylim(len(LABELS) + 0.5, -0.5)
  ax.axvspan(1.5**-0.5, 1.5**0.5, color=theme["line"], alpha=0.6, linewidth=0)
  ax.set_xticks([0.03, 0.1, 0.3, 1, 3, 10, 30])
  ax.set_xlabel(
    "over the tasks' geometric mean; band: a factor of 1.5", size=9.5, color=theme["soft"]
  )
