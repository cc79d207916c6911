"""Noise on weights against what a linear model says it does, and the command that measures it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from scipy.stats import norm

from experiments.commands.program import main
from experiments.comparisons import equal_budgets
from experiments.measures import noise
from experiments.measures.weight_noise import accuracy_under_noise, additive, multiplicative
from experiments.plots.line_names import spread
from experiments.reports import noise as noise_section
from tests.experiments.small import DIGITS, changed

INPUT = np.array([1.0, -2.0, 0.5], np.float32)
PARAMS = {"first": jnp.array([0.4, -0.3]), "second": jnp.array([0.8])}
WEIGHTS = np.array([0.4, -0.3, 0.8], np.float32)
MARGIN = float(WEIGHTS @ INPUT)
STRENGTHS = [0.0, 0.5, 2.0]
# By strength 1, how far the margin strays.
DEVIATION = {additive: np.linalg.norm(INPUT), multiplicative: np.linalg.norm(WEIGHTS * INPUT)}
DRAWS = 4000


def margin_fn(params):
  return jnp.concatenate([params["first"], params["second"]]) @ jnp.asarray(INPUT)


def curve(measure_fn, apply_noise, **options):
  settings = {"num_draws": DRAWS, "key": jax.random.key(0)} | options
  return accuracy_under_noise(measure_fn, PARAMS, apply_noise, STRENGTHS, **settings)


@pytest.mark.parametrize("apply_noise", [additive, multiplicative])
def test_accuracy_is_the_normal_probability_of_the_margin(apply_noise):
  mean_S = curve(lambda p: margin_fn(p) > 0, apply_noise).mean_S
  assert mean_S[0] == 1
  for mean, strength in zip(mean_S[1:], STRENGTHS[1:], strict=True):
    expected = norm.cdf(MARGIN / (strength * DEVIATION[apply_noise]))
    assert mean == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / DRAWS))


@pytest.mark.parametrize("apply_noise", [additive, multiplicative])
def test_band_holds_eighty_percent(apply_noise):
  mean_S, low_S, high_S = curve(margin_fn, apply_noise)
  for mean, low, high, strength in zip(mean_S, low_S, high_S, STRENGTHS, strict=True):
    deviation = strength * DEVIATION[apply_noise]
    assert mean == pytest.approx(MARGIN, abs=1e-5 + 4 * deviation / np.sqrt(DRAWS))
    for bound, share in ((low, 0.1), (high, 0.9)):
      expected = MARGIN + deviation * norm.ppf(share)
      # The standard error of a normal's 10th percentile is 1.71 deviations / sqrt(n).
      assert bound == pytest.approx(expected, abs=1e-5 + 4 * 1.71 * deviation / np.sqrt(DRAWS))


def test_draws_are_the_key_s_and_the_same_at_every_strength():
  one, again, other = (
    curve(margin_fn, additive, num_draws=3, key=jax.random.key(seed)) for seed in (1, 1, 2)
  )
  np.testing.assert_array_equal(one, again)
  assert not np.allclose(one.mean_S[1:], other.mean_S[1:])
  shift = one.mean_S - MARGIN
  np.testing.assert_allclose(shift[2] / shift[1], STRENGTHS[2] / STRENGTHS[1], rtol=1e-4)


def test_params_keep_their_dtype():
  params = {"w": jnp.ones(3, jnp.bfloat16)}
  accuracy_fn = lambda p: jnp.float32(p["w"].dtype == jnp.bfloat16)
  result = accuracy_under_noise(
    accuracy_fn, params, additive, [0.1], num_draws=2, key=jax.random.key(0)
  )
  assert result.mean_S[0] == 1


def test_models_of_one_shape_share_what_is_compiled():
  traced = []

  def accuracy_fn(params, scale):
    traced.append(scale)
    return scale * params["w"].sum()

  for w, scale in ((1.0, 2.0), (3.0, 4.0)):
    found = accuracy_under_noise(
      accuracy_fn,
      {"w": jnp.full(3, w)},
      additive,
      [0.0],
      num_draws=2,
      key=jax.random.key(0),
      args=(jnp.float32(scale),),
    )
    assert found.mean_S[0] == pytest.approx(3 * w * scale)
  assert len(traced) == 1


def test_names_are_moved_apart():
  assert spread([5.0, 1.0, 1.1], [1, 1, 1], 0, 10).tolist() == pytest.approx([5, 0.55, 1.55])
  assert spread([9.9, 9.8], [1, 1], 0, 10).tolist() == pytest.approx([10, 9])
  # The middles of a text of three lines and one of a line are two lines apart.
  assert spread([1.0, 1.0], [1, 3], 0, 10).tolist() == pytest.approx([0, 2])


CURVES = {  # by method, and seed: accuracy without noise and with some
  "sgd": [[80.0, 60.0], [82.0, 64.0]],
  "sam": [[81.0, 70.0], [83.0, 72.0]],
}


def test_table_compares_by_seed(tmp_path):
  curves = lambda x: {kind: dict.fromkeys(("mean", "low", "high"), x) for kind in noise.KINDS}
  found = {
    "name": "digits",
    "reference": "sgd",
    "options": {"draws": 5, "examples": None},
    "strengths": {"additive": [0, 0.1], "multiplicative": [0, 0.5]},
    "runs": {method: [curves(x) for x in seeds] for method, seeds in CURVES.items()},
  }
  (tmp_path / noise.NUMBERS).write_text(json.dumps(found))
  html = "".join(noise_section.section(tmp_path).html)
  assert html.count("<td>sam</td><td>82.0 ± 1.0</td><td>71.0 ± 1.0</td>") == 2
  assert html.count("<td>  minus sgd</td><td>+1.0 ± 0.0</td><td>+9.0 ± 1.0</td>") == 2
  assert html.count("<td>  p, Holm</td><td>0.500</td><td>0.500</td>") == 2
  assert "With 2 seeds and 1 comparison it cannot be below 0.5" in html
  assert "over 2 seeds" in html
  light, dark = ((tmp_path / name).read_bytes() for name in ("noise.png", "noise-dark.png"))
  assert light != dark


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    (["--draws", "0"], "draws must be at least 1; got 0"),
    (["--additive", "0.2", "0.1"], "additive must be strengths that rise; got (0.2, 0.1)"),
    (["--multiplicative", "-1"], "multiplicative must be > 0; got -1.0"),
    ([], "holds no run: there is no config.json"),
  ],
)
def test_refuses_in_one_line(flags, said, capsys, tmp_path):
  assert main(["noise", str(tmp_path), *flags]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert said in line


def test_refuses_a_comparison_that_is_not_finished(capsys, tmp_path):
  (tmp_path / "compare.json").write_text("{}")
  assert main(["noise", str(tmp_path)]) == 2
  assert "the comparison is not finished" in capsys.readouterr().err


@pytest.mark.slow  # trains four models
def test_every_run_of_a_comparison_is_measured(tmp_path, capsys):
  compared = equal_budgets.Comparison(
    config=changed(DIGITS, training={"evaluations": 2}),
    methods=("sgd", "lookahead"),
    seeds=2,
    unit="gradients",
    amount=9,
  )
  with jax.numpy_dtype_promotion("standard"):
    equal_budgets.compare(compared, tmp_path, Console(quiet=True))
    assert main(["noise", str(tmp_path), "--draws", "2", "--additive", "0.1", "1"]) == 0
  results = json.loads((tmp_path / "results.json").read_text())
  found = json.loads((tmp_path / "noise.json").read_text())
  assert found["strengths"]["additive"] == [0, 0.1, 1]
  for method in compared.methods:
    for one, noisy in zip(results["runs"][method], found["runs"][method], strict=True):
      assert noisy["seed"] == one["seed"]
      assert noisy["additive"]["mean"][0] == pytest.approx(one["test_accuracy"], abs=1e-3)
  assert "minus sgd" in capsys.readouterr().out
  page = (tmp_path / "report.html").read_text()
  assert "<h2>Weight noise</h2>" in page
  assert page.count("data:image/png;base64,") == 6
