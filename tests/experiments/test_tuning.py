"""The tuner on landscapes that are known: which settings it tries, and where it stops."""

import math

import pytest
from scipy import stats

from experiments import presets
from experiments.comparisons.tuning import BEYOND, Grid, best, tuning_of
from experiments.methods import methods_on

GRID = Grid((0.003125, 0.00625, 0.0125, 0.025, 0.05, 0.1, 0.2), (0.00125, 0.005, 0.02), (0.5, 1, 2))
DIGITS = presets.CONFIGS["digits"]


def searched(method, peak):
  """(tuning, scores) of a search that ends, on a score that falls with the distance from ``peak``."""
  tuning, scores = tuning_of(presets.with_method(DIGITS, method), GRID), {}
  distance = lambda setting: sum(
    math.log(value / peak[name]) ** 2 for name, value in tuning.values(setting).items()
  )
  while due := tuning.next(scores):
    assert not set(due) & set(scores)
    scores |= {setting: -distance(setting) for setting in due}
  return tuning, scores


@pytest.mark.parametrize("method", methods_on(DIGITS.opt.base))
def test_a_grid_is_not_a_diagonal(method):
  """Every value of an axis is tried with every value of each other axis, over the same range."""
  tuning = tuning_of(presets.with_method(DIGITS, method), GRID)
  columns = list(zip(*tuning.grid, strict=True))
  varied = [column for column in columns if len(set(column)) > 1]
  assert len(varied) >= 2
  for column in varied:
    for other in varied:
      if other is not column:
        assert stats.spearmanr(column, other).statistic == pytest.approx(0.0, abs=1e-12)
  assert tuning.axes[:2] == tuning_of(DIGITS, GRID).axes[:2]
  own = tuning.config.opt.method.search
  rates = {tuning.values(setting)["learning_rate"] for setting in tuning.grid}
  assert rates == set(GRID.rates[1::2] if own else GRID.rates)
  assert len(tuning.grid) == (9 if own else 21)


@pytest.mark.parametrize(
  ("method", "peak"),
  [
    ("sgd", {"learning_rate": 0.003125 / 4, "weight_decay": 0.08}),
    ("sgd", {"learning_rate": 0.4, "weight_decay": 0.0003125}),
    ("sam", {"learning_rate": 0.4, "weight_decay": 0.08, "rho": 0.2}),
    ("sam", {"learning_rate": 0.00625, "weight_decay": 0.00125, "rho": 0.0125}),
    ("sam_ire", {"learning_rate": 0.025, "weight_decay": 0.02, "kappa": 8.0, "rho": 0.1}),
  ],
)
def test_an_edge_is_extended_until_the_best_is_inside(method, peak):
  tuning, scores = searched(method, peak)
  assert tuning.values(best(scores)) == pytest.approx(peak)
  assert tuning.at_edges(scores) == []
  chosen = tuning.chosen(scores).opt
  assert (chosen.learning_rate, chosen.weight_decay) == pytest.approx(
    (peak["learning_rate"], peak["weight_decay"])
  )
  assert all(getattr(chosen.method, name) == pytest.approx(peak[name]) for name in list(peak)[2:])


def test_an_endless_slope_ends_and_is_told():
  tuning, scores = searched("sam", {"learning_rate": 0.025, "weight_decay": 0.005, "rho": 1e9})
  assert best(scores)[2] == len(GRID.scales) - 1 + BEYOND
  assert tuning.at_edges(scores) == ["rho 0.8 is the largest tried"]


def test_a_plateau_does_not_draw_the_search_away():
  tuning, scores = tuning_of(presets.with_method(DIGITS, "sam"), GRID), {}
  while due := tuning.next(scores):
    scores |= dict.fromkeys(due, 10.0)
  assert best(scores) == tuning.grid[0]


def test_a_diverged_setting_is_never_chosen():
  tuning = tuning_of(presets.with_method(DIGITS, "sgd"), Grid(rates=(0.1, 0.2)))
  assert best({(0, 0): -math.inf, (1, 0): 3.0}) == (1, 0)
  assert (
    tuning.chosen({(1, 0): 3.0, (0, 0): 3.0}).opt.learning_rate == 0.2
  )  # of equal ones, the first tried


@pytest.mark.parametrize("values", [(0.2, 0.1), (0.1, 0.1), (0.0, 0.1), (0.1, math.inf)])
def test_a_grid_rises_above_zero(values):
  with pytest.raises(ValueError, match=r"grid\.rates must be above 0 and rise"):
    Grid(rates=values)
