"""Figures from arrays alone, drawn for both grounds."""

import numpy as np
import pytest

from experiments.comparisons.own_metrics import names, over_training
from experiments.measures.score import Score
from experiments.plots import curves, front, landscapes, line_names, own_metrics, spectra, style
from experiments.reports import page

TEXTS = ("A title", "what is shown")
LINE = np.linspace(-1, 1, 9)
LOSSES = LINE[:, None] ** 2 + 3 * LINE[None] ** 2
STEPS = np.arange(1, 6)
METRICS = [
  {"step": step, "loss": 1.0, "sala/count": step, "sala/stage": 1 + (step > 50)}
  for step in range(1, 101)
]
FIGURES = {
  "front": front.front,
  "own_metrics": lambda theme: own_metrics.draw({"sala": over_training([METRICS])}, TEXTS, theme),
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


def test_names_from_files_are_literal_and_run_no_script(tmp_path):
  texts = "costs $5 of {1}$ and \\frac", "<script>alert(1)</script>"
  lines = {"sgd": LINE**2}
  draw = {"one": lambda theme: landscapes.lines(lines, 1.0, texts, theme)}
  style.save_all(draw, tmp_path)
  page.write_page(tmp_path / "report.html", texts[1], [])
  written = (tmp_path / "report.html").read_text()
  assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in written
  assert "<script" not in written


def test_lines_are_the_losses_over_the_span():
  axes = landscapes.lines({"sgd": LINE**2}, 2.0, TEXTS, style.THEMES["light"]).axes[0]
  np.testing.assert_allclose(axes.lines[0].get_xdata(), 2 * LINE)
  np.testing.assert_allclose(axes.lines[0].get_ydata(), LINE**2)


def test_first_direction_runs_along_x():
  """Losses steep along the second direction make contours that are flat ellipses."""
  axes = landscapes.contours({"sgd": LOSSES}, 1.0, TEXTS, style.THEMES["light"]).axes[0]
  inner = axes.collections[1].get_paths()[1].vertices
  assert np.ptp(inner[:, 0]) > 1.5 * np.ptp(inner[:, 1])


def test_own_metrics_are_means_over_windows_and_seeds():
  assert names(METRICS) == ["sala/stage"]
  earlier = [row | {"sala/stage": 1 + (row["step"] > 25)} for row in METRICS]
  found = over_training([METRICS, earlier])
  assert list(found) == ["sala/stage"]
  points = np.array(found["sala/stage"])
  assert points.shape == (20, 2)
  np.testing.assert_allclose(points[:, 0], (np.arange(20) + 0.5) / 20)
  np.testing.assert_allclose(points[:, 1], [1] * 5 + [1.5] * 5 + [2] * 10)


def test_own_metrics_leave_out_what_is_not_finite():
  rows = [{"step": step, "ire/threshold": x} for step, x in enumerate((-np.inf, 2.0), 1)]
  found = over_training([rows])
  np.testing.assert_allclose(found["ire/threshold"], [[0.525, 2.0]])
  assert over_training([[]]) == {}


@pytest.mark.filterwarnings("error")
def test_curves_of_what_diverged_end_where_it_did():
  ends = {"sgd": [(4, 2.0), (8, 1.0)], "sam": [(4, 3.0), (8, None)]}
  results = {"runs": {name: [{"curve": curve}] for name, curve in ends.items()}}
  score = Score("test_loss", "loss", 4, "lower", "sgd")
  panels = curves.curves(results, score, TEXTS, style.THEMES["light"]).axes
  np.testing.assert_array_equal(panels[1].lines[-1].get_ydata(), [3.0, np.nan])


def test_methods_of_one_colour_have_lines_of_their_own():
  methods = "sgd", "sam", "lookbehind", "lookbehind:ascent_steps=5"
  found = line_names.dashes(methods, "sgd", style.THEMES["light"])
  assert found["sam"] == found["lookbehind"]  # of two colours
  assert len({found["sgd"], found["lookbehind"], found["lookbehind:ascent_steps=5"]}) == 3


def test_a_quantity_has_one_axis_whatever_the_method():
  slow, fast = {"sala/stage": [(0.1, 1.0), (0.9, 2.0)]}, {"sala/stage": [(0.1, 2.0), (0.9, 2.0)]}
  figure = own_metrics.draw({"sala": slow, "sala:k=2": fast}, TEXTS, style.THEMES["light"])
  one, other = (ax.get_ylim() for ax in figure.axes if ax.get_visible())
  assert one == other
  assert one[0] < 1.0
  assert one[1] > 2.0


def test_every_point_has_its_name():
  _, axes = style.canvas(style.THEMES["light"], 4, 3, 0.5)
  axes[0, 0].plot([0, 1], [0, 1])
  points = [(0.5, 0.5, name) for name in "abc"]  # one place
  line_names.beside_points(axes[0, 0], points, ["k"] * 3)
  heights = sorted(text.xyann[1] for text in axes[0, 0].texts)
  assert [text.get_text() for text in axes[0, 0].texts] == list("abc")
  assert np.all(np.diff(heights) > 0.05)
