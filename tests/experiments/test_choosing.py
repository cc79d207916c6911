"""Parts of a config by their names, settings behind a method's name, and what is said of others."""

import dataclasses
import subprocess
import sys

import pytest

from experiments import methods, presets
from experiments.commands.program import main
from experiments.config import Refusal
from experiments.data.registry import DATA_SETS
from experiments.data.sets import Digits
from experiments.models.registry import MODELS
from experiments.models.shapes import RESNET18
from tests.experiments.runs import TINY


@pytest.mark.parametrize(
  ("what", "names"),
  [
    ("configs", presets.CONFIGS),
    ("methods", methods.METHODS),
    ("bases", methods.BASES),
    ("models", MODELS),
    ("data", DATA_SETS),
  ],
)
def test_list_names_all_of_a_kind(what, names, capsys):
  assert main(["list", what]) == 0
  printed = capsys.readouterr().out
  assert all(name in printed for name in names)


def test_list_says_what_is_ready_and_what_is_not(capsys):
  main(["list", "data"])
  lines = capsys.readouterr().out.splitlines()
  assert any(line.startswith("digits") and " ready " in line for line in lines)
  assert any("tfds build imagenet2012 --file_format=array_record" in line for line in lines)


def test_parts_are_swapped_by_name():
  chosen = presets.find("demo", "sam", data="digits:train_examples=9", model="resnet18:width=8")
  assert chosen.data.set == Digits(train_examples=9)
  assert chosen.data.wrong_labels == presets.CONFIGS["demo"].data.wrong_labels
  assert chosen.model == dataclasses.replace(RESNET18, width=8)


def test_another_base_brings_its_own_learning_rate():
  entry = methods.BASES["muon"]
  opt = presets.find("digits", base="muon:beta=0.9").opt
  assert opt.base == methods.Muon(beta=0.9)
  assert (opt.learning_rate, opt.weight_decay) == (entry.learning_rate, entry.weight_decay)
  assert opt.method == presets.CONFIGS["digits"].opt.method
  kept = presets.find("digits", base="sgd:momentum=0.8").opt
  assert kept.learning_rate == presets.CONFIGS["digits"].opt.learning_rate


def test_names_from_before_are_still_accepted():
  for old, new in {"sam+ire": "sam_ire", "ire(rho)": "ire_rho"}.items():
    assert presets.find("demo", old) == presets.find("demo", new)
    assert methods.place_and_colours(old + ":kappa=1") == methods.place_and_colours(new)


def test_a_method_s_own_learning_rate():
  opt = presets.find("digits", "sam:rho=0.1,learning_rate=0.02,clip=1").opt
  assert (opt.method, opt.learning_rate, opt.clip) == (methods.Sam(0.1), 0.02, 1.0)


def test_each_method_of_a_comparison_is_another():
  found = presets.by_method(presets.CONFIGS["digits"], ["sgd", "sam:rho=0.1", "sam:rho=0.2"])
  assert [config.opt.method for config in found.values()] == [
    methods.Plain(),
    methods.Sam(0.1),
    methods.Sam(0.2),
  ]
  with pytest.raises(Refusal, match="each be another"):
    presets.by_method(presets.CONFIGS["digits"], ["sam", "sam:rho=0.05"])


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    (["--method", "sma"], "unknown method sma (did you mean sam?)"),
    (["--method", "adamw"], "adamw is a base optimizer: --base adamw puts it below all methods"),
    (["--method", "sam:roh=1"], "unknown setting of sam roh (did you mean rho?)"),
    (["--base", "adam"], "unknown base adam (did you mean adamw?)"),
    (["--model", "resnet19"], "unknown model resnet19 (did you mean resnet18?)"),
    (["--data", "digit"], "unknown data set digit (did you mean digits?)"),
    (["--data", "digits:train_examples=many"], "digits: train_examples cannot be 'many'"),
    (["--model", "wrn28:depth=29"], "does not fit the data"),
    (["--opt.roh", "1"], "Unrecognized options: --opt.roh, 1 (did you mean --opt.rho?)"),
    (
      ["--base", "schedule_free_adamw", "--method", "lookahead"],
      "schedule_free_adamw cannot stand inside lookahead",
    ),
    (
      ["--base", "schedule_free_adamw", "--opt.schedule", "cosine"],
      "needs opt.schedule constant",
    ),
  ],
)
def test_says_in_one_line_what_was_meant(flags, said, capsys, tmp_path):
  model = [] if "--model" in flags else TINY[3:]
  assert main(["train", "digits", *model, *flags, "--run_dir", str(tmp_path / "run")]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert said in line


def test_a_missing_package_is_one_line():
  program = (
    "import sys; sys.modules['orbax'] = None; from experiments.commands.program import main;"
    "sys.exit(main(['train', 'digits', '--run_dir', 'never']))"
  )
  ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
  assert ended.returncode == 2
  (line,) = ended.stderr.splitlines()
  assert line.endswith(
    "train needs the package orbax.checkpoint:"
    " pip install -c constraints.txt -e . --group experiments"
  )
