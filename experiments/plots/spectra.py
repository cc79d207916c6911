"""Eigenvalues of the Hessian: their density, and how the largest move in training."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from experiments.plots.style import canvas, colour, title


def densities(
  spectra: Mapping[str, tuple[np.ndarray, np.ndarray]],
  texts: tuple[str, str],
  theme: dict[str, str],
) -> Figure:
  """``spectra[method] = (grid, density)``: a panel a method, on common logarithmic axes."""
  rows = len(spectra)
  figure, axes = canvas(theme, 8, 1.5 * rows + 1.5, 0.8, rows, sharex=True, sharey=True)
  top = max(np.max(density) for _, density in spectra.values())
  for ax, (method, (grid, density)) in zip(axes.flat, spectra.items(), strict=True):
    shade = colour(theme, method)
    ax.fill_between(grid, density, 1e-6 * top, color=shade, alpha=0.25, linewidth=0)
    ax.plot(grid, density, color=shade, linewidth=1.5)
    ax.set_yscale("log")
    ax.set_ylim(1e-6 * top, 2 * top)
    ax.set_title(method, loc="left", size=10.5, weight="bold", color=shade, pad=3)
    ax.grid(axis="x", visible=False)
  figure.supxlabel("eigenvalue", size=9.5, color=theme["soft"])
  figure.supylabel("density", size=9.5, color=theme["soft"])
  title(figure, theme, *texts)
  return figure


def over_training(
  paths: Mapping[str, tuple[np.ndarray, np.ndarray]], texts: tuple[str, str], theme: dict[str, str]
) -> Figure:
  """``paths[method] = (steps, eigenvalues)``: eigenvalues of shape (steps, num)."""
  figure, axes = canvas(theme, 8, 4.2, top=1.05)
  ax = axes[0, 0]
  for method, (steps, values) in paths.items():
    shade = colour(theme, method)
    for i, column in enumerate(np.transpose(values)):
      ax.plot(
        steps, column, color=shade, linewidth=2.2 if i == 0 else 1, alpha=1 if i == 0 else 0.5
      )
    end = (steps[-1], values[-1][0])
    ax.annotate(method, end, (5, 0), textcoords="offset points", color=shade, va="center")
  ax.set_yscale("log")
  ax.set_xlabel("gradients paid", size=9.5, color=theme["soft"])
  ax.set_ylabel("eigenvalue", size=9.5, color=theme["soft"])
  title(figure, theme, *texts, paths)
  return figure
