"""Curves of fine-tuned models: what is left of the old corpus, against the loss on the new one."""

from typing import Any

from matplotlib.figure import Figure

from experiments.plots.style import canvas, colour, title

COLUMNS = 3
# Of the strongest reference at equal ones; what is the strongest at both is dashed.
DASHES = {"gradients": (0, (1, 1.5)), "steps": (0, (5, 2))}


def curves(found: dict[str, Any], texts: tuple[str, str], theme: dict[str, str]) -> Figure:
  """A panel a method, with the two curves that it is compared with; down and left is better.

  The points before fine-tuning are left out, which lie far to the right.
  """
  points = {arm["method"]: arm["points"][1:] for arm in found["arms"]}
  tables = found["tables"]
  methods = [row["method"] for row in tables["steps"]]
  rows = -(-len(methods) // COLUMNS)
  share = {"sharex": True, "sharey": True}
  figure, axes = canvas(theme, 8, 2.4 * rows + 1.5, 1.05, rows, min(COLUMNS, len(methods)), **share)
  for i, ax in enumerate(axes.flat):
    ax.tick_params(labelbottom=i + COLUMNS >= len(methods))
    if i >= len(methods):
      ax.set_axis_off()

  def draw(ax, arm, **style):
    ax.plot(*zip(*(p for p in points[arm] if None not in p), strict=True), marker="o", **style)

  name = lambda method: method.partition(",")[0]
  for i, (ax, method) in enumerate(zip(axes.flat, methods, strict=False)):
    rivals = {tables[budget][i]["rival"]: dash for budget, dash in DASHES.items()}
    for rival, dash in rivals.items():
      draw(ax, rival, color=theme["base"], linewidth=1.2, linestyle=dash, ms=3.5)
    shade = colour(theme, name(method))
    draw(ax, method, color=shade, linewidth=1.6, ms=4.5)
    ax.set_title(name(method), loc="left", size=10.5, color=shade, pad=3)
  figure.supxlabel("loss on the new corpus, nats a token", size=9.5, color=theme["soft"])
  figure.supylabel("loss on the old corpus", size=9.5, color=theme["soft"])
  title(figure, theme, *texts, [found["reference"], *map(name, methods)])
  return figure
