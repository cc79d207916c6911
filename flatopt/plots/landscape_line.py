"""The loss along one direction through the params."""

import jax
import numpy as np
from matplotlib.axes import Axes

from flatopt import _arguments
from flatopt.plots._style import as_array, label_axes, next_colour, show_labels, styled_axes


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
  losses = as_array("landscape_line", "losses", losses, num_axes=1)
  ax, colours = styled_axes(ax, dark)
  points = np.linspace(-span, span, len(losses))
  ax.plot(points, losses, color=next_colour(ax, colours), linewidth=2.2, label=label)
  label_axes(ax, "along the direction", "loss", colours)
  show_labels(ax, colours)
  return ax
