"""Losses along one direction or two."""

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from experiments.plots.style import canvas, colour, title


def lines(
  losses: Mapping[str, np.ndarray], span: float, texts: tuple[str, str], theme: dict[str, str]
) -> Figure:
  """One direction, ``losses[method]`` of shape (points,): all methods in one pair of axes."""
  figure, axes = canvas(theme, 8, 4.2, top=1.05)
  ax = axes[0, 0]
  for method, values in losses.items():
    shade = colour(theme, method)
    ax.plot(_coordinates(values, span), values, color=shade, linewidth=2.2)
    ax.annotate(
      method, (span, values[-1]), (5, 0), textcoords="offset points", color=shade, va="center"
    )
  ax.set_xlabel("along a filter-normalised direction", size=9.5, color=theme["soft"])
  ax.set_ylabel("loss", size=9.5, color=theme["soft"])
  title(figure, theme, *texts)
  return figure


def contours(
  losses: Mapping[str, np.ndarray], span: float, texts: tuple[str, str], theme: dict[str, str]
) -> Figure:
  """Two directions, ``losses[method]`` of shape (points, points): panels on common levels."""
  figure, axes = canvas(theme, 8, 3.2, 0.8, columns=len(losses), sharex=True, sharey=True)
  levels = _levels(losses)
  shades = LinearSegmentedColormap.from_list("loss", [theme["ground"], theme["before the base"]])
  for ax, (method, values) in zip(axes.flat, losses.items(), strict=True):
    points = _coordinates(values, span)
    drawn = ax.contourf(points, points, values.T, levels, cmap=shades, extend="both")
    ax.contour(points, points, values.T, levels, colors=theme["soft"], linewidths=0.6)
    ax.plot(0, 0, "+", color=theme["ink"], markersize=9)
    ax.set_title(method, loc="left", size=10.5, weight="bold", color=colour(theme, method), pad=3)
    ax.set_aspect("equal")
    ax.grid(visible=False)
  bar = figure.colorbar(drawn, ax=list(axes.flat), shrink=0.75, pad=0.02)
  bar.outline.set_visible(False)
  bar.ax.tick_params(colors=theme["soft"], labelsize=9, length=0)
  bar.set_label("loss", size=9.5, color=theme["soft"])
  title(figure, theme, *texts, key=())
  return figure


def surface(
  losses: np.ndarray, span: float, texts: tuple[str, str], theme: dict[str, str]
) -> Figure:
  """Two directions, losses of shape (points, points), as a surface in perspective."""
  figure, _ = canvas(theme, 8, 5.6, top=0.8, subplot_kw={"projection": "3d"})
  ax = figure.axes[0]
  points = _coordinates(losses, span)
  x, y = np.meshgrid(points, points, indexing="ij")
  shades = LinearSegmentedColormap.from_list("loss", [theme["before the base"], theme["line"]])
  ax.plot_surface(x, y, losses, cmap=shades, edgecolor=theme["soft"], linewidth=0.3)
  for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
    axis.set_pane_color(theme["ground"])
    axis._axinfo["grid"]["color"] = theme["line"]
  ax.set_zlabel("loss", size=9.5, color=theme["soft"])
  title(figure, theme, *texts, key=())
  return figure


def _coordinates(values: np.ndarray, span: float) -> np.ndarray:
  return np.linspace(-span, span, len(values))


def _levels(losses: Mapping[str, np.ndarray]) -> np.ndarray:
  """Common to all panels: up to where most of the sharpest one still shows its shape."""
  every = np.concatenate([np.ravel(values) for values in losses.values()])
  return np.linspace(np.min(every), np.quantile(every, 0.9), 13)
