"""Quantised weights against a grid by hand and in NumPy, and the command that measures them."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from experiments.commands.program import main
from experiments.comparisons import equal_budgets
from experiments.measures import quantisation
from experiments.reports import quantisation as quantisation_section
from tests.experiments.small import DIGITS, changed

KERNEL = np.array([[0.7, -1.4], [-0.26, 0.45]], np.float32)
SHAPES = {  # of leaves, by where they lie
  ("dense", "kernel"): (6, 5),
  ("conv", "kernel"): (3, 3, 2, 4),
  ("query", "kernel"): (6, 2, 3),
  ("tokens", "embedding"): (7, 6),
  ("norm", "scale"): (6,),
}


def params(seed=0):
  rng, found = np.random.default_rng(seed), {}
  for (layer, leaf), shape in SHAPES.items():
    found[layer] = {leaf: rng.normal(size=shape).astype(np.float32)}
  return found


def nearest_of_grid(path, w, bits):
  """Each channel's weights to the nearest of evenly spaced values, by trying all of them."""
  if w.ndim < 2:
    return w
  by_channel = w if path[-1] == "embedding" else np.moveaxis(w, -1, 0)
  found = np.empty_like(by_channel)
  for i, channel in enumerate(by_channel):
    largest = np.abs(channel).max()
    grid = np.linspace(-largest, largest, 2**bits - 1)
    found[i] = grid[np.abs(channel[..., None] - grid).argmin(axis=-1)]
  return found if path[-1] == "embedding" else np.moveaxis(found, 0, -1)


def quantised_by_hand(tree, bits):
  names = lambda path: [key.key for key in path]
  return jax.tree_util.tree_map_with_path(
    lambda path, w: nearest_of_grid(names(path), np.asarray(w), bits), tree
  )


@pytest.mark.parametrize(
  ("bits", "expected"),
  [
    (4, [[0.7, -1.4], [-0.3, 0.4]]),  # steps of 0.1 and 0.2
    (3, [[0.7, -1.4], [-0.7 / 3, 1.4 / 3]]),  # of 0.233 and 0.467
    (2, [[0.7, -1.4], [0, 0]]),
  ],
)
def test_a_kernel_and_an_embedding_by_hand(bits, expected):
  found = quantisation.quantise({"kernel": KERNEL, "embedding": KERNEL.T, "bias": KERNEL[0]}, bits)
  np.testing.assert_allclose(found["kernel"], expected, rtol=1e-6)
  np.testing.assert_allclose(found["embedding"], np.transpose(expected), rtol=1e-6)
  np.testing.assert_array_equal(found["bias"], KERNEL[0])


@pytest.mark.parametrize("bits", [8, 4, 3])
def test_is_the_nearest_of_the_grid(bits):
  found, expected = quantisation.quantise(params(), bits), quantised_by_hand(params(), bits)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), found, expected)


@pytest.mark.parametrize("bits", [8, 4])
def test_strays_by_half_a_step_at_most_and_not_again(bits):
  once = quantisation.quantise(params(1), bits)
  again = quantisation.quantise(once, bits)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), once, again)
  for (layer, leaf), shape in SHAPES.items():
    w, found = params(1)[layer][leaf], np.asarray(once[layer][leaf])
    if len(shape) == 1:
      np.testing.assert_array_equal(found, w)
      continue
    axes = (1,) if leaf == "embedding" else tuple(range(len(shape) - 1))
    step = np.abs(w).max(axis=axes, keepdims=True) / (2 ** (bits - 1) - 1)
    strayed = np.abs(found - w) / step
    assert strayed.max() <= 0.5 + 1e-4
    assert strayed.max() > 0.25


def test_zeros_and_dtypes_stay():
  found = quantisation.quantise({"kernel": jnp.zeros((2, 3), jnp.bfloat16)}, 4)
  assert found["kernel"].dtype == jnp.bfloat16
  np.testing.assert_array_equal(found["kernel"].astype(np.float32), np.zeros((2, 3)))


MEASURED = {  # losses of two seeds, with 32, 8 and 4 bits
  "adamw": [[2.0, 2.1, 3.0], [2.2, 2.3, 3.6]],
  "sam": [[1.9, 2.0, 2.5], [2.1, 2.1, 2.7]],
  "rst": [[1.9, 2.0, None], [2.1, 2.1, 2.7]],
}


def test_table_has_the_damage_and_compares_it_by_seed(tmp_path):
  found = {
    "name": "llama",
    "task": "next_token",
    "reference": "adamw",
    "bits": [32, 8, 4],
    "options": {"bits": [8, 4], "examples": None},
    "runs": {
      method: [{"seed": i, "loss": losses} for i, losses in enumerate(seeds)]
      for method, seeds in MEASURED.items()
    },
  }
  (tmp_path / quantisation.NUMBERS).write_text(json.dumps(found))
  html = "".join(quantisation_section.section(tmp_path).html)
  cells = lambda *texts: "".join(f"<td>{text}</td>" for text in texts)
  own = "2.0000 ± 0.1000", "2.0500 ± 0.0500", "2.6000 ± 0.1000", "0.0500 ± 0.0500"
  assert cells("sam", *own, "0.6000 ± 0.0000") in html
  # At 4 bits adamw loses 1.0 and 1.4 nats, sam 0.6 and 0.6.
  beside = "0.1000 ± 0.0000", "0.1500 ± 0.0500", "0.7000 ± 0.2000", "0.0500 ± 0.0500"
  below = [f"\u2212{text}" for text in (*beside, "0.6000 ± 0.2000")]
  assert cells("  minus adamw", *below) in html
  # Two pairs have 2 of 4 signs at least. Two methods are compared, at 4 bits one: rst diverged.
  assert cells("  p, Holm", "1.000", "1.000", "0.500", "1.000", "0.500") in html
  assert cells("  p, Holm", "1.000", "1.000", "-", "1.000", "-") in html
  assert "methods in each column compared, 2, by Holm" in html
  assert cells("rst", *own[:2], "-", own[3], "-") in html
  light, dark = ((tmp_path / f"quantisation{x}.png").read_bytes() for x in ("", "-dark"))
  assert light != dark
  found |= {"task": "classification", "reference": "sgd"}
  runs = [{"seed": 0, "accuracy": [90.0, 89.5, 80.0]}]
  (tmp_path / quantisation.NUMBERS).write_text(json.dumps(found | {"runs": {"sgd": runs}}))
  html = "".join(quantisation_section.section(tmp_path).html)
  assert cells("sgd", "90.0", "89.5", "80.0", "0.5", "10.0") in html
  assert "Holm" not in html  # one seed of one method: nothing is compared


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    (["--bits", "4", "8"], "bits must be numbers from 16 to 2 that fall; got (4, 8)"),
    (["--bits", "8", "1"], "that fall; got (8, 1)"),
    (["--bits", "32"], "that fall; got (32,)"),
    (["--examples", "0"], "examples must be at least 1; got 0"),
    ([], "holds no run: there is no config.json"),
  ],
)
def test_refuses_in_one_line(flags, said, capsys, tmp_path):
  assert main(["quantise", str(tmp_path), *flags]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert said in line


@pytest.mark.slow  # trains four models
def test_every_run_of_a_comparison_is_measured(tmp_path, capsys):
  compared = equal_budgets.Comparison(
    config=changed(DIGITS, training={"evaluations": 1}),
    methods=("sgd", "lookahead"),
    seeds=2,
    unit="gradients",
    amount=9,
  )
  with jax.numpy_dtype_promotion("standard"):
    equal_budgets.compare(compared, tmp_path, Console(quiet=True))
    assert main(["quantise", str(tmp_path), "--bits", "8", "2"]) == 0
  results = json.loads((tmp_path / "results.json").read_text())
  found = json.loads((tmp_path / "quantisation.json").read_text())
  assert found["bits"] == [32, 8, 2]
  for method in compared.methods:
    for one, quantised in zip(results["runs"][method], found["runs"][method], strict=True):
      assert quantised["seed"] == one["seed"]
      assert quantised["accuracy"][0] == pytest.approx(one["test_accuracy"], abs=1e-3)
      assert quantised["loss"][0] == pytest.approx(one["test_loss"], rel=1e-5)
      assert abs(quantised["loss"][2] - one["test_loss"]) > 1e-3
  assert "minus sgd" in capsys.readouterr().out
  assert "<h2>Quantised weights</h2>" in (tmp_path / "report.html").read_text()
  lines = (tmp_path / "quantisation.csv").read_text().splitlines()
  assert lines[0] == "method,seed,bits,loss,accuracy"
  assert len(lines) == 1 + 2 * 2 * 3
