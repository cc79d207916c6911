"""Configs as their papers have them, with every method."""

import dataclasses
import functools
import json

import jax
import pytest

from experiments import presets
from experiments.config import Refusal, differences, from_dict, to_dict
from experiments.measures.compared_runs import runs_below
from experiments.methods import make_optimizer, method_name, methods_on
from experiments.reports import parts
from experiments.training import run_directory

BATCHES = {"ire": 128, "sala": 128, "lookbehind": 128, "rst": 256}  # of the papers, on CIFAR


@pytest.mark.parametrize("name", presets.CONFIGS)
def test_every_method_fits_every_config(name):
  config = presets.CONFIGS[name]
  for method in methods_on(config.opt.base):
    chosen = presets.find(name, method)
    assert method_name(chosen.opt) == method
    jax.eval_shape(make_optimizer(chosen.opt, chosen.steps(), key=0).init, {"w": jax.numpy.ones(3)})
    # Only the method differs, and what was tuned with it.
    rest = dataclasses.replace(chosen, opt=config.opt)
    assert rest == config


@pytest.mark.parametrize("name", presets.CONFIGS)
def test_configs_come_back_from_json(name):
  config = presets.CONFIGS[name]
  written = json.loads(json.dumps(to_dict(config)))
  assert from_dict(written) == config
  assert not differences(written, to_dict(from_dict(written)))


@pytest.mark.parametrize(
  ("path", "value"),
  [("name", 5), ("model.width", "8"), ("data.batch_size", 16.5), ("opt.method", [])],
)
def test_a_value_of_another_type_is_refused(path, value, tmp_path):
  """Without a digest, as a config that somebody wrote by hand."""
  written = to_dict(presets.CONFIGS["digits"])
  *above, name = path.split(".")
  functools.reduce(dict.__getitem__, above, written)[name] = value
  (tmp_path / "config.json").write_text(json.dumps({"config": written}))
  with pytest.raises(Refusal, match=rf"config\.json is not a config of this version: {name} of "):
    run_directory.read_config(tmp_path)


def test_runs_of_a_comparison_are_below_its_directory(tmp_path):
  (tmp_path / "results.json").touch()
  for methods, seeds in ((["sgd", "../../sam"], 1), (["sgd"], 10**12), (["sgd"], "3"), (5, 1)):
    (tmp_path / "compare.json").write_text(json.dumps({"methods": methods, "seeds": seeds}))
    with pytest.raises(Refusal, match=r"compare\.json is damaged"):
      runs_below(tmp_path)


@pytest.mark.parametrize("name", [name for name in presets.CONFIGS if "-cifar" in name])
def test_cifar_is_trained_for_200_epochs(name):
  config = presets.CONFIGS[name]
  assert config.data.batch_size == BATCHES[name.partition("-")[0]]
  assert config.steps() == config.training.budget == 200 * 50_000 // config.data.batch_size
  assert f"cifar{config.data.set.classes}-" in name
  assert f"cifar{config.data.set.classes}" == config.data.set.name
  assert config.data.augment.crop == 4


@pytest.mark.parametrize("method", ["ire", "sam_ire", "ire_rho", "sam+ire", "ire(rho)"])
def test_ire_begins_where_the_paper_has_it(method):
  chosen = presets.find("ire-cifar10-resnet56", method).opt.method
  assert (chosen.kappa, chosen.flat_fraction, chosen.update_interval) == (2, 0.8, 10)
  assert chosen.start == pytest.approx(2 / 3)


def test_settings_in_words():
  told = lambda method: parts.own_settings(to_dict(presets.find("digits", method).opt))
  expected = "ascent_steps 2, rho 0.123, interpolation adaptive"
  assert told("lookbehind:rho=0.1234") == expected
  assert told("sgd") == "-"
