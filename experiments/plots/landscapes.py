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
  title(figure, theme, *texts, losses)
  return figure


def contours(
  losses: Mapping[str, np.ndarray], span: float, texts: tuple[str, str], theme: dict[str, str]
) -> Figure:
  """Two directions, ``losses[method]`` of shape (points, points): panels on common levels."""
  figure, axes = canvas(theme, 8, 3.2, 0.8, columns=len(losses), sharex=True, sharey=True)
  levels = _levels(losses)
  for ax, (method, values) in zip(axes.flat, losses.items(), strict=True):
    drawn = _contour_panel(ax, values, span, levels, theme)
    ax.set_title(method, loc="left", size=10.5, weight="bold", color=colour(theme, method), pad=3)
  _loss_bar(figure, drawn, list(axes.flat), theme)
  title(figure, theme, *texts)
  return figure


def line_and_plane(
  method: str,
  line: np.ndarray,
  plane: np.ndarray,
  span: float,
  texts: tuple[str, str],
  theme: dict[str, str],
) -> Figure:
  """One network: losses of shape (points,) along a direction, (points, points) along two."""
  figure, axes = canvas(theme, 8, 4.2, 0.8, columns=2, width_ratios=(1, 1.15))
  left, right = axes.flat
  left.plot(_coordinates(line, span), line, color=colour(theme, method), linewidth=2.2)
  left.axvline(0, color=theme["soft"], linewidth=0.8)
  left.set_ylabel("loss", size=9.5, color=theme["soft"])
  drawn = _contour_panel(right, plane, span, _levels({method: plane}), theme)
  _loss_bar(figure, drawn, [right], theme)
  for ax in (left, right):
    ax.set_xlabel("first direction", size=9.5, color=theme["soft"])
  right.set_ylabel("second direction", size=9.5, color=theme["soft"])
  title(figure, theme, *texts)
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
  title(figure, theme, *texts)
  return figure


def _contour_panel(ax, losses: np.ndarray, span: float, levels: np.ndarray, theme):
  """Filled contours around the params, which a cross marks."""
  shades = LinearSegmentedColormap.from_list("loss", [theme["ground"], theme["before the base"]])
  points = _coordinates(losses, span)
  drawn = ax.contourf(points, points, losses.T, levels, cmap=shades, extend="both")
  ax.contour(points, points, losses.T, levels, colors=theme["soft"], linewidths=0.6)
  ax.plot(0, 0, "+", color=theme["ink"], markersize=9)
  ax.set_aspect("equal")
  ax.grid(visible=False)
  return drawn


def _loss_bar(figure: Figure, drawn, panels: list, theme: dict[str, str]) -> None:
  bar = figure.colorbar(drawn, ax=panels, shrink=0.75, pad=0.02)
  bar.outline.set_visible(False)
  bar.ax.tick_params(colors=theme["soft"], labelsize=9, length=0)
  bar.set_label("loss", size=9.5, color=theme["soft"])


def _coordinates(values: np.ndarray, span: float) -> np.ndarray:
  return np.linspace(-span, span, len(values))


def _levels(losses: Mapping[str, np.ndarray]) -> np.ndarray:
  """Common to all panels: up to where most of the sharpest one still shows its shape."""
  every = np.concatenate([np.ravel(values) for values in losses.values()])
  return np.linspace(np.nanmin(every), np.nanquantile(every, 0.9), 13)
