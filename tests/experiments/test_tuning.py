"""The tuner on landscapes that are known: which settings it tries, and where it stops."""

import math

import pytest
from scipy import stats

from experiments import presets
from experiments.comparisons.trials import Trials
from experiments.comparisons.tuning import BEYOND, FIRST_SEED, Grid, ranked, tuning_of
from experiments.measures.score import score_of
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
  best = ranked(scores)[0]
  assert tuning.values(best) == pytest.approx(peak)
  assert tuning.at_edges(best, scores) == []
  chosen = tuning.configured(best).opt
  assert (chosen.learning_rate, chosen.weight_decay) == pytest.approx(
    (peak["learning_rate"], peak["weight_decay"])
  )
  assert all(getattr(chosen.method, name) == pytest.approx(peak[name]) for name in list(peak)[2:])


def test_an_endless_slope_ends_and_is_told():
  tuning, scores = searched("sam", {"learning_rate": 0.025, "weight_decay": 0.005, "rho": 1e9})
  assert ranked(scores)[0][2] == len(GRID.scales) - 1 + BEYOND
  assert tuning.at_edges(ranked(scores)[0], scores) == ["rho 0.8 is the largest tried"]


def test_a_plateau_does_not_draw_the_search_away():
  tuning, scores = tuning_of(presets.with_method(DIGITS, "sam"), GRID), {}
  while due := tuning.next(scores):
    scores |= dict.fromkeys(due, 10.0)
  assert ranked(scores)[0] == tuning.grid[0]


class FinishedTrials:
  """Runs of which all are finished, whose accuracies are given by rate and seed."""

  def __init__(self, accuracies):
    self.accuracies, self.trained = accuracies, []

  def finished(self, *path):
    return path in self.trained

  def train(self, config, *path):
    if path not in self.trained:
      self.trained.append(path)
    accuracies = self.accuracies[config.opt.learning_rate]
    return {"validation_accuracy": accuracies[config.training.seed - FIRST_SEED]}


def trials_until_chosen(accuracies, grid):
  config = presets.with_method(DIGITS, "sgd")
  runs = FinishedTrials(accuracies)
  trials = Trials(tuning_of(config, grid), grid, runs, "sgd", score_of(config, "sgd"))
  while due := trials.search().due:
    assert not set(due) & set(runs.trained)
    for path, one in due.items():
      runs.train(one, *path)
  return trials


def test_a_diverged_setting_is_never_chosen():
  none_diverges = [1.0, 2.0]
  trials = trials_until_chosen(
    {0.1: [9.0, None], 0.2: none_diverges, 0.4: [None, 9.0]}, Grid((0.1, 0.2), trial_seeds=2)
  )
  assert trials.chosen().opt.learning_rate == 0.2
  assert ranked({(1, 0): 3.0, (0, 0): 3.0})[0] == (1, 0)  # of equal ones, the first tried


def test_finalists_are_judged_by_more_seeds():
  """The luckiest of the search is not chosen where its other seeds are behind, nor one that was
  third in the search; and what ran in the search does not run a second time."""
  accuracies = {0.1: [70.0, 99.0], 0.2: [80.0, 82.0, 84.0], 0.4: [81.0, 79.0, 76.0], 0.8: [60.0]}
  grid = Grid((0.1, 0.2, 0.4), trial_seeds=1, finalists=2, final_seeds=3)
  trials = trials_until_chosen(accuracies, grid)
  assert trials.chosen().opt.learning_rate == 0.2
  assert len(trials.runs.trained) == 4 + 2 * 2
  values = {row["learning_rate"]: row["validation_accuracy"] for row in trials.rows()}
  assert values == accuracies | {0.1: [70.0]}
  search = trials.search()
  assert ranked(search.tried)[0] != search.chosen


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"finalists": 0}, r"grid\.finalists must be at least 1"),
    ({"finalists": 2, "final_seeds": 2}, r"grid\.final_seeds must be above grid\.trial_seeds, 2"),
  ],
)
def test_finalists_have_more_seeds_than_the_search(fields, message):
  with pytest.raises(ValueError, match=message):
    Grid(**fields)


@pytest.mark.parametrize("values", [(0.2, 0.1), (0.1, 0.1), (0.0, 0.1), (0.1, math.inf)])
def test_a_grid_rises_above_zero(values):
  with pytest.raises(ValueError, match=r"grid\.rates must be above 0 and rise"):
    Grid(rates=values)
