"""The loss in a plane."""

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
  """Draws contours of the loss in the plane of two directions, the params in the middle.

  To compare minima, give all of them the same ``levels``.

  Args:
    losses: shape (resolution, resolution), of ``sharpness.loss_landscape`` with two
      directions; the first direction runs to the right.
    span: the one that ``loss_landscape`` was given, > 0.
    levels: rising losses to draw contours at; ``None`` means 12 steps up to where nine
      tenths of the plane lie below.
    ax: axes to draw into; ``None`` makes a figure.
    dark: colours for dark ground.

  Returns:
    The axes; ``ax.figure.savefig("plane.svg")`` writes the figure.

  Raises:
    ValueError, TypeError: losses of another number of axes, or a bad span.

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
  if levels is None:
    levels = np.linspace(np.nanmin(losses), np.nanquantile(losses, 0.9), 13)
  ax, colours = styled_axes(ax, dark)
  x, y = (np.linspace(-span, span, size) for size in losses.shape)
  shades = LinearSegmentedColormap.from_list("loss", [colours["ground"], colours["series"][0]])
  # Axis 0 is the first direction, which matplotlib draws upwards unless it is transposed.
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
