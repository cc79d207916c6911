"""Curves of fine-tuned models: what is left of the old corpus, against what the new one's loss is."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from experiments.plots import line_names
from experiments.plots.style import canvas, colour, title


def curves(
  arms: Sequence[dict[str, Any]], reference: str, texts: tuple[str, str], theme: dict[str, str]
) -> Figure:
  """A line an arm through its rates of fine-tuning; lower and further left is better.

  The points before fine-tuning are left out, which lie far to the right.
  """
  figure, axes = canvas(theme, 8, max(5.0, 0.3 * len(arms) + 1.6), 1.05)
  ax = axes[0, 0]
  name = lambda arm: arm["method"].partition(",")[0]
  is_reference = lambda arm: name(arm).partition(":")[0] == reference
  ends = []
  for arm in sorted(arms, key=lambda arm: not is_reference(arm)):
    shade = colour(theme, name(arm))
    x, y = zip(*(point for point in arm["points"][1:] if None not in point), strict=True)
    dash = (0, (4, 2)) if is_reference(arm) else "-"
    ax.plot(x, y, color=shade, linewidth=1.2, linestyle=dash, marker="o", ms=4, alpha=0.8)
    ends.append((x[-1], y[-1], arm["method"]))
  shades = [colour(theme, text.partition(",")[0]) for _, _, text in ends]
  line_names.beside_points(ax, ends, shades)
  ax.set_xlabel("loss on the new corpus, nats a token", size=9.5, color=theme["soft"])
  ax.set_ylabel("loss on the old corpus", size=9.5, color=theme["soft"])
  title(figure, theme, *texts, [name(arm) for arm in arms])
  return figure
