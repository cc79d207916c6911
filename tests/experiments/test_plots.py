"""Figures from arrays alone, drawn for both grounds."""

import numpy as np
import pytest

from experiments.plots import landscapes, spectra, style

TEXTS = ("A title", "what is shown")
LINE = np.linspace(-1, 1, 9)
LOSSES = LINE[:, None] ** 2 + 3 * LINE[None] ** 2
STEPS = np.arange(1, 6)
FIGURES = {
  "densities": lambda theme: spectra.densities(
    {"sgd": (LINE, np.exp(-(LINE**2))), "sam": (LINE, np.exp(-9 * LINE**2))}, TEXTS, theme
  ),
  "over_training": lambda theme: spectra.over_training(
    {"sgd": (STEPS, np.stack([2 * STEPS, STEPS], axis=1))}, TEXTS, theme
  ),
  "lines": lambda theme: landscapes.lines({"sgd": LINE**2, "sam": LINE**4}, 1.0, TEXTS, theme),
  "contours": lambda theme: landscapes.contours(
    {"sgd": LOSSES, "sam": LOSSES / 2}, 1.0, TEXTS, theme
  ),
  "surface": lambda theme: landscapes.surface(LOSSES, 1.0, TEXTS, theme),
}


@pytest.mark.parametrize("name", FIGURES)
def test_drawn_for_both_grounds(name, tmp_path):
  style.save_all({name: FIGURES[name]}, tmp_path)
  light, dark = ((tmp_path / f"{name}{suffix}.png").read_bytes() for suffix in ("", "-dark"))
  assert light != dark


def test_lines_are_the_losses_over_the_span():
  axes = landscapes.lines({"sgd": LINE**2}, 2.0, TEXTS, style.THEMES["light"]).axes[0]
  np.testing.assert_allclose(axes.lines[0].get_xdata(), 2 * LINE)
  np.testing.assert_allclose(axes.lines[0].get_ydata(), LINE**2)


def test_first_direction_runs_along_x():
  """Losses steep along the second direction make contours that are flat ellipses."""
  axes = landscapes.contours({"sgd": LOSSES}, 1.0, TEXTS, style.THEMES["light"]).axes[0]
  inner = axes.collections[1].get_paths()[1].vertices
  assert np.ptp(inner[:, 0]) > 1.5 * np.ptp(inner[:, 1])
