"""The density of the Hessian's eigenvalues."""

import numpy as np
from matplotlib.axes import Axes

from flatopt import _arguments
from flatopt.plots._style import as_array, label_axes, next_colour, show_labels, styled_axes
from flatopt.sharpness import SpectralDensity

_SHOWN = 1e-6  # lowest density to show, relative to the peak; lower values are tails of the kernel


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
  grid = as_array("spectrum", "density.grid", density.grid, num_axes=1)
  values = as_array("spectrum", "density.density", density.density, num_axes=1)
  ax, colours = styled_axes(ax, dark)
  colour, top = next_colour(ax, colours), float(np.nanmax(values))
  lowest = _SHOWN * top
  ax.fill_between(grid, np.maximum(values, lowest), lowest, color=colour, alpha=0.2, linewidth=0)
  ax.plot(grid, np.maximum(values, lowest), color=colour, linewidth=1.5, label=label)
  ax.set_yscale("log")
  bottom, ceiling = lowest, 2 * top
  if len(ax.lines) > 1:  # room for every peak; all areas stand on the same ground
    bottom, ceiling = np.maximum((bottom, ceiling), ax.get_ylim())
  ax.set_ylim(bottom, ceiling)
  ax.grid(axis="x", visible=False)
  label_axes(ax, "eigenvalue", "density", colours)
  show_labels(ax, colours)
  return ax
