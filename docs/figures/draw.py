"""Draws a run on the contours of its loss, for light and for dark ground."""

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse

from docs.figures.cases import Case
from docs.figures.runs import Run, run, two_layers
from experiments.plots.style import canvas, title
from flatopt.__main__ import PLACES


def colour(theme: dict[str, str], name: str) -> str:
  """Of the method's place relative to the base optimizer."""
  if name == "ire":  # the form that is drawn
    return theme["after the base"]
  place = next(place for place, module in PLACES if hasattr(module, name))
  return theme[place.removesuffix(" optimizer")]


def draw_case(name: str, case: Case, theme: dict[str, str]) -> Figure:
  figure, axes = canvas(theme, 7, 4.1, top=0.8)
  ax, shade = axes[0, 0], colour(theme, name)
  _contours(ax, case.loss_fn, case.view, theme)
  options = {"noise": case.noise, "seed": case.seed}
  if case.base is not None:
    grey = run(case.base, case.loss_fn, case.start, case.num_steps, **options)
    ax.plot(*grey.path.T, "-", color=theme["soft"], linewidth=1.4)
    ax.plot(*grey.path[-1], "o", color=theme["soft"], ms=7)
  recorded = run(case.optimizer, case.loss_fn, case.start, case.num_steps, **options)
  _perturbed_points(ax, recorded, theme)
  ax.plot(*recorded.path.T, "-", color=shade, linewidth=2)
  if not np.array_equal(recorded.path, recorded.slow):
    ax.plot(*recorded.slow.T, "s", color=theme["ink"], ms=4.5)
  ax.plot(*recorded.slow[-1], "o", color=shade, ms=9, mec=theme["ground"], mew=1.5, zorder=5)
  ax.plot(*case.start, "o", color=theme["ink"], ms=5)
  ax.set_xlim(case.view[0])
  ax.set_ylim(case.view[1])
  if case.equal:
    ax.set_aspect("equal")
  _axis_names(ax, case.axes, theme)
  title(figure, theme, case.title, case.subtitle)
  return figure


def draw_asam(theme: dict[str, str]) -> Figure:
  """Draws the perturbations of SAM and ASAM around two params that give the same function."""
  figure, axes = canvas(theme, 7, 4.1, top=0.8)
  ax, view = axes[0, 0], ((0.0, 4.2), (0.0, 2.4))
  _contours(ax, two_layers, view, theme)
  line = np.linspace(0.3, 4.2, 200)
  ax.plot(line, 1 / line, color=theme["ink"], linewidth=1.2)
  for a in (0.6, 3.1):
    centre = (a, 1 / a)
    ax.add_patch(Circle(centre, 0.3, fill=False, color=theme["soft"], linewidth=2))
    size = {"width": 2 * 0.3 * a, "height": 2 * 0.3 / a}
    ax.add_patch(Ellipse(centre, **size, fill=False, color=colour(theme, "asam"), linewidth=2.4))
    ax.plot(*centre, "o", color=theme["ink"], ms=6)
  ax.set_xlim(view[0])
  ax.set_ylim(view[1])
  ax.set_aspect("equal")
  _axis_names(ax, ("a", "b"), theme)
  subtitle = (
    "$L = (a b - 1)^2 / 2$ has its minima on the line. Blue: ASAM's ellipse. Grey: SAM's ball."
  )
  title(figure, theme, "ASAM's neighbourhood scales with the weights", subtitle)
  return figure


def _contours(ax, loss_fn, view, theme) -> None:
  x, y = (np.linspace(*ends, 161) for ends in view)
  grid = jnp.stack(jnp.meshgrid(x, y, indexing="xy"), axis=-1)
  losses = np.asarray(jax.vmap(jax.vmap(loss_fn))(grid))
  # Enough levels to show the narrow minimum, which is shallow.
  levels = np.linspace(losses.min(), np.quantile(losses, 0.85), 36)
  shades = LinearSegmentedColormap.from_list("loss", [theme["line"], theme["ground"]])
  ax.contourf(x, y, losses, levels, cmap=shades, extend="max")
  ax.contour(x, y, losses, levels, colors=theme["soft"], linewidths=0.5, alpha=0.35)
  ax.grid(visible=False)
  ax.set_xticks([])
  ax.set_yticks([])


def _perturbed_points(ax, recorded: Run, theme) -> None:
  """Lines from each step's params to the points of its extra gradients, in their order."""
  for start, points in zip(recorded.path, recorded.looks, strict=False):
    if len(points):
      chain = np.vstack([start, points])
      ax.plot(*chain.T, color=theme["ink"], linewidth=0.7, alpha=0.8)
      ax.plot(*points.T, "o", color=theme["ink"], ms=4.5, mfc=theme["ground"], mew=0.9)


def _axis_names(ax, names, theme) -> None:
  ax.set_xlabel(names[0], size=9.5, color=theme["soft"])
  ax.set_ylabel(names[1], size=9.5, color=theme["soft"], rotation=0)
