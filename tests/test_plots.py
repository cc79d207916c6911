"""Figures: what they draw is what they were given."""

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import pyplot

from flatopt import plots
from flatopt.sharpness import SpectralDensity

SPECTRUM = SpectralDensity(jnp.array([-1.0, 0.0, 3.0]), jnp.array([0.0, 2.0, 0.5]))


@pytest.fixture(autouse=True)
def closed_figures():
  yield
  pyplot.close("all")


def test_a_line_has_the_losses_over_the_span():
  losses = jnp.array([3.0, 1.0, 2.0])
  (line,) = plots.landscape_line(losses, span=2.0).lines
  np.testing.assert_array_equal(line.get_xdata(), [-2, 0, 2])
  np.testing.assert_array_equal(line.get_ydata(), losses)


def test_lines_in_the_same_axes_differ_and_are_named():
  ax = plots.landscape_line([3.0, 1.0, 2.0], label="sgd")
  assert plots.landscape_line([2.0, 1.0, 2.0], label="sam", ax=ax) is ax
  assert [text.get_text() for text in ax.get_legend().get_texts()] == ["sgd", "sam"]
  assert len({line.get_color() for line in ax.lines}) == 2


def test_the_first_direction_runs_to_the_right():
  x, (_, ax) = np.linspace(-1, 1, 5), pyplot.subplots()
  losses = np.broadcast_to(x[:, None], (5, 5))
  assert plots.landscape_contours(losses, levels=[-0.25, 0.25], ax=ax) is ax
  assert not any(line.get_visible() for line in ax.get_xgridlines())
  vertical = [path.vertices for path in ax.collections[1].get_paths()]
  for level, vertices in zip((-0.25, 0.25), vertical, strict=True):
    np.testing.assert_allclose(vertices[:, 0], level, atol=1e-6)
  np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[0, 0]])  # the params


def test_levels_stop_where_nine_tenths_lie_below():
  losses = np.arange(100.0).reshape(10, 10)
  levels = plots.landscape_contours(losses, span=0.5).collections[0].levels
  assert (levels[0], levels[-1]) == (0, np.quantile(losses, 0.9))


@pytest.mark.parametrize(
  "losses",
  [
    np.full((5, 5), 3.0),
    np.zeros((5, 5)),
    np.where(np.eye(5) == 1, np.inf, np.arange(25.0).reshape(5, 5)),  # overflow at some points
    np.where(np.eye(5) == 1, np.nan, 2.0),
    np.where(np.arange(25).reshape(5, 5) == 7, 9.0, 1.0),  # one peak, above the 90 % quantile
  ],
  ids=["constant", "zero", "some inf", "constant and nan", "one peak"],
)
def test_a_plane_of_any_finite_losses_is_drawn(losses):
  ax = plots.landscape_contours(losses)
  ax.figure.canvas.draw()
  levels = ax.collections[0].levels
  finite = losses[np.isfinite(losses)]
  assert levels[0] == np.min(finite)
  assert np.all(np.diff(levels) > 0)


def test_a_plane_without_finite_losses_is_refused():
  with pytest.raises(
    ValueError, match=r"landscape_contours: no loss is finite: pass a smaller span"
  ):
    plots.landscape_contours(np.full((5, 5), np.nan))


def test_a_spectrum_is_cut_a_million_below_its_peak():
  ax = plots.spectrum(SPECTRUM, label="w")
  (line,), (area,) = ax.lines, ax.collections
  np.testing.assert_allclose(line.get_ydata(), [2e-6, 2.0, 0.5])
  np.testing.assert_allclose(area.get_paths()[0].get_extents().get_points(), [[-1, 2e-6], [3, 2]])
  assert ax.get_yscale() == "log"


@pytest.mark.parametrize("order", [(1, 10), (10, 1)])
def test_the_axis_has_room_for_the_highest_peak_of_several_spectra(order):
  ax = None
  for factor in order:
    ax = plots.spectrum(SPECTRUM._replace(density=factor * SPECTRUM.density), ax=ax)
  np.testing.assert_allclose(ax.get_ylim(), [20e-6, 40])  # a million below, twice above


@pytest.mark.parametrize(
  "draw",
  [
    lambda **options: plots.landscape_line([1.0, 2.0], **options),
    lambda **options: plots.landscape_contours([[1.0, 2.0], [3.0, 4.0]], **options),
    lambda **options: plots.spectrum(SPECTRUM, **options),
  ],
)
def test_dark_ground_is_dark(draw):
  grounds = [draw(**options).figure.get_facecolor() for options in ({}, {"dark": True})]
  luminance = [sum(ground[:3]) / 3 for ground in grounds]
  assert luminance[0] > 0.9
  assert luminance[1] < 0.15


@pytest.mark.parametrize(
  ("draw", "message"),
  [
    (lambda: plots.landscape_line([[1.0, 2.0]]), "landscape_line: losses must have 1 axis"),
    (lambda: plots.landscape_contours([1.0, 2.0]), "landscape_contours: losses must have 2 axes"),
    (lambda: plots.landscape_line([1.0, 2.0], span=-1.0), "landscape_line: span must be >= 0"),
    (lambda: plots.spectrum(SpectralDensity(jnp.ones(1), jnp.ones(1))), "spectrum: density.grid"),
  ],
)
def test_bad_input_is_named(draw, message):
  with pytest.raises(ValueError, match=message):
    draw()


def test_an_array_that_is_no_spectrum():
  with pytest.raises(TypeError, match=r"spectrum: density must be .*spectral_density; got float"):
    plots.spectrum(jnp.ones(5))
