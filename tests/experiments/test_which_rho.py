"""What SAM's perturbation does, on a quadratic; and a rho from it, on tasks where a law is exact."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import which_rho
from experiments.measures.perturbation import QUARTILES, perturbation
from tests.experiments.kept import RESULTS

LATTICE = [0.01 * 2.0**k for k in range(9)]


def test_perturbation_of_a_quadratic():
  curvatures, w, rhos = np.array([3.0, 1.0]), np.array([1.0, 2.0]), np.array([0.1, 0.4])
  loss_fn = lambda params: 0.5 * jnp.sum(jnp.asarray(curvatures) * params**2)
  found = jax.jit(perturbation, static_argnums=0)(loss_fn, jnp.asarray(w), jnp.asarray(rhos))
  g = curvatures * w
  norm, loss = np.linalg.norm(g), 0.5 * g @ w
  moved = g + rhos[:, None] * curvatures * g / norm  # the gradients at w + rho g / ||g||
  rise = rhos * norm + 0.5 * rhos**2 * (g @ (curvatures * g)) / norm**2
  expected = {
    "angle": 1 - moved @ g / (np.linalg.norm(moved, axis=1) * norm),
    "change": rhos * np.linalg.norm(curvatures * g) / norm**2,
    "rise": rise,
    "relative_rise": rise / loss,
    "first_order": rhos * norm / loss,
  }
  assert found.keys() == expected.keys()
  for name, values in expected.items():
    np.testing.assert_allclose(found[name], values, rtol=2e-4, err_msg=name)


def task(name, rho, constant, *, aside=False, best=90.0):
  """A task where the change is ``constant`` times rho, and accuracy falls from ``rho`` both ways."""
  values = {"rho": LATTICE, "change": [constant * x for x in LATTICE]}
  row = {"share": 0.0, "values": {key: [x] * len(QUARTILES) for key, x in values.items()}}
  return {
    "name": name,
    "aside": aside,
    "unit": "accuracy",
    "rho": rho,
    "base_score": 80.0,
    "profile": [[x, best - 2 * abs(np.log2(x / rho))] for x in LATTICE],
    "moments": {"base": [row]},
  }


def test_a_law_that_holds_is_found_and_costs_nothing():
  law = {"a": 0.02, "b": 0.08, "c": 0.32}
  tasks = [task(name, rho, 0.5 / rho) for name, rho in law.items()]
  tasks += [task("d", 0.16, 0.5 / 0.16, aside=True), task("no gain", 0.04, 1.0, best=79.0)]
  found = which_rho.analyse(list(filter(which_rho.gains, tasks)))
  (row,) = found["rows"]
  assert list(found["rho"]) == ["a", "b", "c", "d"]
  assert (row["quantity"], row["n"]) == ("change", 3)
  assert row["ratio"] == pytest.approx(1)
  assert row["ratio_of_rho"] == pytest.approx(16)
  assert row["cost"] == pytest.approx(0, abs=1e-9)
  assert {one["task"]: one["rho"] for one in row["tasks"]} == pytest.approx(law | {"d": 0.16})
  # The others' mean is sqrt(.08 x .32), .08 and .04: off by 3, 0 and 3 factors of two.
  assert found["mean"]["cost"] == pytest.approx(2 * (3 + 0 + 3) / 3)
  assert found["mean"]["tasks"][3]["factor"] == pytest.approx(2)
  assert found["width"]["b"] == pytest.approx([0.08, 0.08])


def test_where_nothing_is_the_same_a_guess_costs_as_much_as_the_mean():
  tasks = [task(name, rho, 1.0) for name, rho in {"a": 0.02, "b": 0.08, "c": 0.32}.items()]
  found = which_rho.analyse(tasks)
  (row,) = found["rows"]
  assert row["ratio"] == pytest.approx(found["ratio_of_rho"])
  assert row["cost"] == pytest.approx(found["mean"]["cost"])


def test_a_value_beyond_the_lattice_is_its_end():
  points = [0.1, 0.2, 0.4], [-1.0, 1.0, 4.0]
  assert [which_rho.solved(points, x) for x in (-2, 0.5, 2, 9)] == pytest.approx(
    [0.1, 0.2, 0.2 * 2**0.5, 0.4]
  )


def test_the_kept_result_is_that_of_the_kept_tasks():
  where = RESULTS / "2026-11-29-which-rho"
  specs = json.loads((where / "tasks.json").read_text())["tasks"]
  tasks = [which_rho.measured(spec, where) for spec in specs]
  found = which_rho.analyse(list(filter(which_rho.gains, tasks)))
  kept = json.loads((where / "which_rho.json").read_text())["gains"]
  assert found["rho"] == kept["rho"]
  for kind in ("fixed", "mean"):
    assert found[kind]["cost"] == pytest.approx(kept[kind]["cost"])
  for row, other in zip(found["rows"], kept["rows"], strict=True):
    assert row["values"] == pytest.approx(other["values"])
    assert row["cost"] == pytest.approx(other["cost"])


def test_a_task_is_read_from_its_trials():
  where = RESULTS / "2026-11-29-which-rho"
  tuned = str(where / "tuned" / "digits")
  read = which_rho.read_task({"name": "digits", "base": tuned, "sam": tuned})
  kept = json.loads((where / "digits.json").read_text())
  assert read.pop("runs")["sam"] == f"{tuned}/runs/sam:rho=0.05/seed-0"
  assert read == {name: kept[name] for name in read}
  assert which_rho.held_out(read, 0.1 * 2**0.5) == pytest.approx(
    np.mean([score for rho, score in read["profile"] if rho in (0.1, 0.2)])
  )
