"""The loss on a plane through the params."""

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from flatopt import _arguments
from flatopt.plots._style import as_array, label_axes, styled_axes


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
  losses = as_array("landscape_contours", "losses", losses, num_axes=2)
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
  ax, colours = styled_axes(ax, dark)
  x, y = (np.linspace(-span, span, size) for size in losses.shape)
  shades = LinearSegmentedColormap.from_list("loss", [colours["ground"], colours["series"][0]])
  # Transposed, because matplotlib draws axis 0 upwards, and axis 0 is the first direction.
  filled = ax.contourf(x, y, losses.T, levels, cmap=shades, extend="both")
  ax.contour(x, y, losses.T, levels, colors=colours["soft"], linewidths=0.6)
  ax.plot(0, 0, "+", color=colours["ink"], markersize=9)
  ax.set_aspect("equal")
  ax.locator_params(nbins=5)
  ax.grid(visible=False)
  label_axes(ax, "first direction", "second direction", colours)
  bar = ax.figure.colorbar(filled, ax=ax, shrink=0.8, pad=0.02)
  bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
  bar.ax.tick_params(colors=colours["soft"], labelsize=9, length=0)
  bar.set_label("loss", size=9.5, color=colours["soft"])
  return ax
