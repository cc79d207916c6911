"""Figures of a minimum: the loss around it, and the spectrum of its Hessian.

This module needs matplotlib. ``import flatopt`` does not import it.
"""

from typing import Any

import jax
import numpy as np

try:
  from matplotlib import pyplot
  from matplotlib.axes import Axes
  from matplotlib.colors import LinearSegmentedColormap
except ModuleNotFoundError as error:
  message = "flatopt.plots needs matplotlib: pip install 'flatopt[plots]'"
  raise ModuleNotFoundError(message) from error

from flatopt import _arguments
from flatopt.sharpness import SpectralDensity

# The hues of Okabe and Ito, which colour-blind readers can distinguish, in shades that contrast
# with each background.
_LIGHT = {
  "ground": "#ffffff",
  "ink": "#1b1d21",
  "soft": "#6a6f77",
  "line": "#dfe2e6",
  "series": ("#0072b2", "#c25400", "#a8437a", "#00795c", "#1b1d21"),
}
_DARK = {
  "ground": "#15171b",
  "ink": "#eceef1",
  "soft": "#9aa0a8",
  "line": "#363b43",
  "series": ("#56b4e9", "#f0a03c", "#e391bd", "#2bc4a0", "#eceef1"),
}
_SHOWN = 1e-6  # lowest density to show, relative to the peak; lower values are tails of the kernel


def landscape_line(
  losses: jax.typing.ArrayLike,
  *,
  span: float = 1.0,
  label: str | None = None,
  ax: Axes | None = None,
  dark: bool = False,
) -> Axes:
  """Draws the loss along one direction through the params.

  To compare minima, call it again with the same ``ax``: each line gets its own colour.

  Args:
    losses: array of shape (resolution,), from ``sharpness.loss_landscape`` with one direction.
    span: the ``span`` that ``loss_landscape`` got.
    label: label of the line in the legend.
    ax: axes to draw into; ``None``: the axes of a new figure.
    dark: whether to use the colours for a dark background.

  Returns:
    The axes; ``ax.figure.savefig("line.svg")`` writes the figure.

  Raises:
    ValueError, TypeError: ``losses`` or ``span`` is of the wrong shape, type or range.

  Example:
    >>> import jax.numpy as jnp
    >>> from flatopt import plots, sharpness
    >>> loss_fn = lambda w: jnp.sum(w**2)
    >>> losses = sharpness.loss_landscape(loss_fn, jnp.zeros(2), (jnp.ones(2),))
    >>> ax = plots.landscape_line(losses, label="a bowl")
    >>> ax.get_ylabel()
    'loss'
  """
  _arguments.check_number("landscape_line", "span", span, low=0)
  losses = _as_array("landscape_line", "losses", losses, num_axes=1)
  ax, colours = _styled_axes(ax, dark)
  points = np.linspace(-span, span, len(losses))
  ax.plot(points, losses, color=colours["next"], linewidth=2.2, label=label)
  _label(ax, "along the direction", "loss", colours)
  return ax


def landscape_contours(
  losses: jax.typing.ArrayLike,
  *,
  span: float = 1.0,
  levels: jax.typing.ArrayLike | None = None,
  ax: Axes | None = None,
  dark: bool = False,
) -> Axes:
  """Draws contours of the loss on the plane of two directions, with the params in the middle.

  To compare minima, use the same ``levels`` for all of them.

  Args:
    losses: array of shape (resolution, resolution), from ``sharpness.loss_landscape`` with two
      directions. The first direction points to the right.
    span, ax, dark: as in ``landscape_line``.
    levels: the losses to draw contours at, in rising order; ``None``: 13 levels from the lowest
      loss to the 90 % quantile of the finite losses. Points whose loss is not finite stay empty.

  Returns:
    The axes; ``ax.figure.savefig("plane.svg")`` writes the figure.

  Raises:
    ValueError, TypeError: ``losses`` or ``span`` is of the wrong shape, type or range, or no loss
      is finite.

  Example:
    >>> import jax.numpy as jnp
    >>> from flatopt import plots, sharpness
    >>> directions = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
    >>> loss_fn = lambda w: w[0] ** 2 + 5 * w[1] ** 2
    >>> losses = sharpness.loss_landscape(loss_fn, jnp.zeros(2), directions)
    >>> ax = plots.landscape_contours(losses)
    >>> ax.get_xlabel()
    'first direction'
  """
  _arguments.check_number("landscape_contours", "span", span, low=0)
  losses = _as_array("landscape_contours", "losses", losses, num_axes=2)
  finite = losses[np.isfinite(losses)]
  if not finite.size:
    raise ValueError(
      "landscape_contours: no loss is finite: pass a smaller span to loss_landscape, or check that"
      " the loss is finite at the params"
    )
  losses = np.ma.masked_invalid(losses)
  if levels is None:
    lowest, highest = np.min(finite), np.quantile(finite, 0.9)
    if lowest == highest:  # a constant plane, or one with peaks alone
      highest = max(np.max(finite), lowest + max(abs(lowest), 1) * 1e-3)
    levels = np.linspace(lowest, highest, 13)
  ax, colours = _styled_axes(ax, dark)
  x, y = (np.linspace(-span, span, size) for size in losses.shape)
  shades = LinearSegmentedColormap.from_list("loss", [colours["ground"], colours["series"][0]])
  # Transposed, because matplotlib draws axis 0 upwards, and axis 0 is the first direction.
  filled = ax.contourf(x, y, losses.T, levels, cmap=shades, extend="both")
  ax.contour(x, y, losses.T, levels, colors=colours["soft"], linewidths=0.6)
  ax.plot(0, 0, "+", color=colours["ink"], markersize=9)
  ax.set_aspect("equal")
  ax.locator_params(nbins=5)
  ax.grid(visible=False)
  _label(ax, "first direction", "second direction", colours)
  bar = ax.figure.colorbar(filled, ax=ax, shrink=0.8, pad=0.02)
  bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
  bar.ax.tick_params(colors=colours["soft"], labelsize=9, length=0)
  bar.set_label("loss", size=9.5, color=colours["soft"])
  return ax


def spectrum(
  density: SpectralDensity,
  *,
  label: str | None = None,
  ax: Axes | None = None,
  dark: bool = False,
) -> Axes:
  """Draws the density of the Hessian's eigenvalues, on a logarithmic axis.

  Most eigenvalues of a network are near 0. A few large ones, far to the right, distinguish sharp
  minima from flat ones, and a linear axis would not show them. To compare minima, call it again
  with the same ``ax``.

  Args:
    density: the result of ``sharpness.spectral_density``.
    label, ax, dark: as in ``landscape_line``.

  Returns:
    The axes; ``ax.figure.savefig("spectrum.svg")`` writes the figure.

  Raises:
    TypeError: ``density`` is not the result of ``sharpness.spectral_density``.
    ValueError: the grid or the density is not a vector.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from flatopt import plots, sharpness
    >>> grad_fn = jax.grad(lambda w: jnp.sum(jnp.arange(1.0, 4.0) * w**2))
    >>> density = sharpness.spectral_density(grad_fn, jnp.ones(3), num_matvecs=3, key=0)
    >>> ax = plots.spectrum(density, label="2, 4 and 6")
    >>> ax.get_yscale()
    'log'
  """
  if not isinstance(density, SpectralDensity):
    raise TypeError(
      "spectrum: density must be the result of sharpness.spectral_density; got"
      f" {_arguments.describe(density)}"
    )
  grid = _as_array("spectrum", "density.grid", density.grid, num_axes=1)
  values = _as_array("spectrum", "density.density", density.density, num_axes=1)
  ax, colours = _styled_axes(ax, dark)
  colour, top = colours["next"], float(np.nanmax(values))
  lowest = _SHOWN * top
  ax.fill_between(grid, np.maximum(values, lowest), lowest, color=colour, alpha=0.2, linewidth=0)
  ax.plot(grid, np.maximum(values, lowest), color=colour, linewidth=1.5, label=label)
  ax.set_yscale("log")
  bottom, ceiling = lowest, 2 * top
  if len(ax.lines) > 1:  # room for every peak; all areas stand on the same ground
    bottom, ceiling = np.maximum((bottom, ceiling), ax.get_ylim())
  ax.set_ylim(bottom, ceiling)
  ax.grid(axis="x", visible=False)
  _label(ax, "eigenvalue", "density", colours)
  return ax


def _styled_axes(ax: Axes | None, dark: bool) -> tuple[Axes, dict[str, Any]]:
  """Returns the caller's axes unchanged, or styled axes of a new figure; and the colours."""
  colours = _DARK if dark else _LIGHT
  num_lines = 0 if ax is None else len(ax.lines)
  colours = colours | {"next": colours["series"][num_lines % len(colours["series"])]}
  if ax is not None:
    return ax, colours
  _, ax = pyplot.subplots(figsize=(5.6, 3.6), facecolor=colours["ground"], layout="constrained")
  ax.set_facecolor(colours["ground"])
  ax.spines[:].set_visible(False)
  ax.tick_params(which="both", colors=colours["soft"], labelsize=9, length=0)
  ax.grid(color=colours["line"], linewidth=0.8)
  ax.set_axisbelow(True)
  return ax, colours


def _label(ax: Axes, x: str, y: str, colours: dict[str, Any]) -> None:
  """Labels the axes, and adds a legend if a line has a label."""
  ax.set_xlabel(x, size=9.5, color=colours["soft"])
  ax.set_ylabel(y, size=9.5, color=colours["soft"])
  if ax.get_legend_handles_labels()[1]:
    ax.legend(frameon=False, labelcolor=colours["ink"], fontsize=9.5)


def _as_array(function: str, name: str, values: Any, num_axes: int) -> np.ndarray:
  """Returns the values as an array, and checks its number of axes."""
  array = np.asarray(values, np.float64)
  if array.ndim != num_axes or min(array.shape) < 2:
    raise ValueError(
      f"{function}: {name} must have {num_axes} {'axis' if num_axes == 1 else 'axes'} of 2 or more"
      f" points; got shape {array.shape}"
    )
  return array
