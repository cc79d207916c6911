"""Tests, intervals and corrections, against SciPy's and against all cases written out."""

import itertools

import numpy as np
import pytest
from scipy import stats

from experiments.comparisons.table import summarise
from experiments.measures import statistics
from experiments.measures.score import ACCURACY, LOSS
from experiments.reports import significance

NINE = [0.3, -0.1, 0.8, 0.4, 0.05, -0.2, 0.6, 0.1, 0.35]


def draw(n, mean):
  return np.random.default_rng(n).normal(mean, 1.0, n)


@pytest.mark.parametrize("sample", [NINE, [-x for x in NINE], draw(5, -1.0), draw(11, 0.2)])
def test_sign_flips_are_scipy_s(sample):
  expected = stats.permutation_test(
    (np.array(sample),), np.mean, permutation_type="samples", n_resamples=np.inf
  )
  p = statistics.sign_flip_p(sample)
  assert p == pytest.approx(expected.pvalue, abs=1e-12)
  assert 0 < p < 1


def test_sign_flips_by_hand():
  # Of -6, -4, -2, 0, 0, 2, 4 and 6, as signs make of 1 + 2 + 3, two are as far out as 6.
  assert statistics.sign_flip_p([1.0, 2.0, 3.0]) == 2 / 8
  assert statistics.sign_flip_p([1.0, 2.0, -3.0]) == 1.0
  assert statistics.sign_flip_p([0.0, 0.0]) == 1.0
  assert statistics.sign_flip_p([1.0] * 8) == 2 / 256 == statistics.least_p(8, 1)


@pytest.mark.parametrize("sample", [NINE, [-x for x in NINE], draw(11, 0.2)])
def test_not_worse_is_scipy_s_one_sided_test_of_the_shifted_mean(sample):
  shifted = (np.array(sample) + 0.3,)
  expected = stats.permutation_test(
    shifted, np.mean, permutation_type="samples", n_resamples=np.inf, alternative="greater"
  )
  assert statistics.not_worse_p(sample, 0.3) == pytest.approx(expected.pvalue, abs=1e-12)


def test_not_worse_by_hand():
  # No difference at all is "not worse by .3" with ten pairs, and not with four.
  assert statistics.not_worse_p([0.0] * 10, 0.3) == 1 / 1024
  assert statistics.not_worse_p([0.0] * 4, 0.3) == 1 / 16
  assert statistics.not_worse_p([-0.3] * 10, 0.3) == 1.0  # at the margin nothing is shown
  assert statistics.not_worse_p([-1.0] * 10, 0.3) == 1.0
  # Of -.6, -.2, .2 and .6, as signs make of .2 and .4, one is as far up as .6.
  assert statistics.not_worse_p([-0.1, 0.1], 0.3) == 1 / 4
  assert statistics.not_worse_p([0.1], 0.3) is None


def test_equal_sums_are_equal_in_whatever_order_they_round():
  # 0.1 + 0.2 - 0.3 is not quite zero: all signs that sum to it, or to minus it, are as far out.
  sample = [0.1, 0.2, 0.3, 0.3]
  sums = [sum(s * x for s, x in zip(signs, (1, 2, 3, 3), strict=True)) for signs in _signs(4)]
  flipped = np.array(sample) * [1, 1, 1, -1]
  assert statistics.sign_flip_p(flipped) == np.mean([abs(x) >= 3 for x in sums])


def _signs(n):
  return itertools.product((-1, 1), repeat=n)


def test_drawn_signs_are_close_to_all_of_them(monkeypatch):
  sample = draw(16, 0.4)
  exact = statistics.sign_flip_p(sample)
  monkeypatch.setattr(statistics, "MOST_EXACT", 15)
  drawn = statistics.sign_flip_p(sample)
  assert drawn == statistics.sign_flip_p(sample)  # seeded
  assert drawn != exact
  assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact / 99_999))
  # None of the draws is as far out as forty equal differences, which then count alone.
  assert statistics.sign_flip_p([1.0] * 40) == 1 / 100_000


def test_the_interval_is_that_of_all_resamples():
  sample = [0.3, -0.1, 0.8, 0.45, 0.07]
  means = [np.mean(drawn) for drawn in itertools.product(sample, repeat=5)]
  low, high = statistics.bootstrap_interval(sample)
  assert (low, high) == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.01)
  assert low < np.mean(sample) < high
  assert statistics.bootstrap_interval(sample) == (low, high)  # seeded
  assert statistics.bootstrap_interval([0.5] * 3) == (0.5, 0.5)


@pytest.mark.parametrize("sample", [[], [1.0], [1.0, np.nan], [1.0, np.inf, 2.0]])
def test_nothing_is_told_from_too_few_pairs_or_a_diverged_run(sample):
  assert statistics.sign_flip_p(sample) is None
  assert statistics.bootstrap_interval(sample) is None


def test_holm_by_hand():
  # Smallest first: 4 x .01, 3 x .013, which may not fall below .04, 2 x .03, 1 x .04, as .06.
  assert statistics.holm([0.03, 0.01, 0.04, 0.013]) == pytest.approx([0.06, 0.04, 0.06, 0.04])
  assert statistics.holm([0.03, None, 0.02]) == [pytest.approx(0.04), None, pytest.approx(0.04)]
  assert statistics.holm([0.4, 0.7, 0.6]) == [1.0, 1.0, 1.0]
  assert statistics.holm([0.04, 0.04]) == pytest.approx([0.08, 0.08])
  assert statistics.holm([]) == []


def test_what_few_pairs_can_reach():
  assert statistics.least_p(5, 1) == 0.0625
  assert statistics.least_p(8, 10) == pytest.approx(10 / 128)
  assert statistics.least_p(2, 10) == 1.0
  everywhere = [statistics.sign_flip_p([1.0] * 8)] * 10
  assert statistics.holm(everywhere) == pytest.approx([statistics.least_p(8, 10)] * 10)


def test_rows_are_tested_against_the_reference_and_corrected():
  scores = {
    "sgd": [80.0, 82.0, 81.0, 79.0, 80.0, 83.0],
    "sam": [81.0, 83.5, 83.0, 80.5, 80.5, 84.0],
    "rst": [81.0, 81.0, 82.0, 80.0, 81.0, 82.0],
    "ire": [81.0, None, 82.0, 80.0, 81.0, 82.0],
  }
  runs = {method: [{"test_accuracy": x} for x in found] for method, found in scores.items()}
  sgd, sam, rst, ire = summarise(runs, means=())
  tested = "difference_low", "difference_high", "p", "p_holm"
  assert [sgd[name] for name in tested] == [ire[name] for name in tested] == [None] * 4
  own = np.subtract(scores["sam"], scores["sgd"])
  assert (sam["difference_low"], sam["difference_high"]) == statistics.bootstrap_interval(own)
  assert sam["difference_low"] < 1.25 < sam["difference_high"]
  assert (sam["difference"], sam["difference_error"]) == pytest.approx((1.25, stats.sem(own)))
  assert (sam["p"], sam["p_holm"]) == (2 / 64, 4 / 64)  # two comparisons: ire's run diverged
  assert rst["p"] == rst["p_holm"] == stats.binomtest(2, 6).pvalue  # all differences are 1 or -1


def test_error_over_examples_is_that_of_means_over_seeds():
  rng = np.random.default_rng(0)
  own, other = (rng.choice([0.0, 100.0], (3, 50)) for _ in range(2))
  each = [(own[:, i] - other[:, i]).sum() / 3 for i in range(50)]
  error = statistics.error_over_examples(list(own), list(other))
  assert error == pytest.approx(stats.sem(each))
  assert statistics.error_over_examples([own[0], None], [other[0], other[1]]) is None
  assert statistics.error_over_examples([own[0]], [None]) is None
  assert statistics.error_over_examples([own[0] * np.nan], [other[0]]) is None
  runs = {m: [{"loss": np.mean(x)} for x in xs] for m, xs in {"adamw": other, "sam": own}.items()}
  found = summarise(
    runs, key="loss", reference="adamw", means=(), scores={"adamw": list(other), "sam": list(own)}
  )
  assert [row["difference_test_error"] for row in found] == [None, error]


def rows(n, p_values):
  """A reference and the methods that are compared with it."""
  return [{"n": n, "p_holm": None}, *({"n": n, "p_holm": p} for p in p_values)]


def test_a_caption_says_when_nothing_can_be_significant():
  few = significance.caption(rows(5, [0.125, 0.5]), "methods")
  assert "exact two-sided sign-flip test" in few
  assert "the number of methods compared, 2, by Holm" in few
  assert "With 5 seeds and 2 comparisons it cannot be below 0.12, so that no difference" in few
  assert "cannot be below" not in significance.caption(rows(8, [0.1] * 6))  # 12 / 256
  assert "cannot be below" in significance.caption(rows(8, [0.1] * 7))  # 14 / 256
  assert "exact" not in significance.caption(rows(17, [0.1]))
  assert significance.caption(rows(1, [None])) == ""
  assert significance.caption([{"n": 5}, {"n": 5}]) == ""  # of an older version


ROWS = [
  {"method": "sgd", "difference": 0.0, "p": None, "p_holm": None},
  {"method": "sam", "difference": 1.0, "p": 0.01, "p_holm": 0.04},
  {"method": "rst", "difference": 2.0, "p": 0.03, "p_holm": 0.06},  # lost to the correction
  {"method": "sala", "difference": 2.0, "p": 0.05, "p_holm": 0.05},
  {"method": "ire", "label": "ire:kappa=2", "difference": -3.0, "p": 0.001, "p_holm": 0.004},
]


def test_a_method_is_better_only_where_the_corrected_p_says_so():
  said = significance.verdicts(ROWS, ACCURACY)
  assert said.startswith("Better than sgd by test accuracy")
  told = "the correction: sam. Worse: ire:kappa=2. Not told apart from it: rst; sala."
  assert said.endswith(told)
  told = "the correction: ire:kappa=2. Worse: sam. Not told apart from it: rst; sala."
  assert significance.verdicts(ROWS, LOSS).endswith(told)  # where lower is better
  assert "correction: none. Worse: none." in significance.verdicts(ROWS[2:3], ACCURACY)
  assert significance.verdicts(ROWS[:1], ACCURACY) == ""


def test_the_page_has_every_part_of_a_difference():
  row = ROWS[1] | {"difference_error": 0.2, "difference_low": -0.3, "difference_high": 1.4}
  _, _, table, _ = significance.section([ROWS[0], row], ACCURACY)
  assert "<td>+1.0</td><td>0.2</td><td>\u22120.3 to +1.4</td><td>0.010</td><td>0.040</td>" in table
  assert "<td>sgd</td>" not in table
  rows = [row | {"difference_test_error": 0.7}, row | {"difference_test_error": None}]
  _, _, table, said = significance.section(rows, ACCURACY)
  assert "<td>+1.0</td><td>0.2</td><td>0.7</td><td>\u22120.3" in table
  assert "<td>+1.0</td><td>0.2</td><td>-</td><td>\u22120.3" in table  # of an older version
  assert "over test examples" in said
  assert significance.section([{"method": "sam"}], ACCURACY) == []


def test_p_values_as_texts():
  found = [significance.cell(row) for row in ({"p_holm": 0.0004}, {"p_holm": 0.0316}, {})]
  assert found == ["<.001", "0.032", "-"]
