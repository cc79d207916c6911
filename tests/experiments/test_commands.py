"""The command line: what it lists, explains and refuses, each in one line."""

import dataclasses
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import optax
import pytest

from experiments import methods, presets
from experiments.commands.config_first import parse_with_config
from experiments.commands.list import List
from experiments.commands.program import COMMANDS, main
from experiments.commands.train import Train
from experiments.config import Refusal
from experiments.methods import methods_on
from experiments.training.checkpoints import Checkpoints
from tests.experiments.runs import TINY


def refused(capsys, *arguments):
  assert main(arguments) == 2
  (line,) = capsys.readouterr().err.splitlines()
  return line


def test_help_of_all_fits_eighty_columns(capsys):
  assert main(["--help"]) == 0
  printed = capsys.readouterr().out
  assert all(f"python -m experiments {name}" in printed for name in COMMANDS)
  assert max(map(len, printed.splitlines())) <= 80


def test_help_and_refusals_do_not_wait_for_jax():
  program = (
    "import sys; from experiments.commands.program import main; main(['--help']); main(['walk']);"
    "assert 'jax' not in sys.modules"
  )
  done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
  daily = [line.split()[3] for line in done.stdout.splitlines() if "-m experiments" in line][:3]
  assert daily == ["list", "train", "compare"]
  assert "unknown command walk" in done.stderr
  assert done.returncode == 0, done.stderr


def test_a_redirected_log_keeps_whole_lines_and_begins_at_once(capsys, monkeypatch):
  line = "[/red] " + "word " * 50
  monkeypatch.setattr(List, "run", lambda self, console: console.print(line))
  assert main(["list"]) == 0
  assert capsys.readouterr().out == f"python -m experiments list: loading JAX\n{line}\n"


def test_list_names_every_config(capsys):
  assert main(["list"]) == 0
  printed = capsys.readouterr().out
  assert all(name in printed for name in presets.CONFIGS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_eighty_columns(command, capsys, monkeypatch):
  monkeypatch.setenv("COLUMNS", "80")
  with pytest.raises(SystemExit) as left:
    main([command, "--help"])
  assert not left.value.code
  printed = capsys.readouterr().out
  assert command in printed
  assert not [line for line in printed.splitlines() if len(line) > 80]


@pytest.mark.parametrize("name", presets.CONFIGS)
def test_help_of_a_config_shows_its_own_defaults(name, capsys):
  with pytest.raises(SystemExit):
    main(["train", name, "--help"])
  assert f"default: {presets.CONFIGS[name].opt.learning_rate}" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["digits", "digits-adamw"])
def test_flags_of_every_method(name, tmp_path):
  """All parts' flags stand side by side behind ``--opt``: no two may have one name."""
  for method in methods_on(presets.CONFIGS[name].opt.base):
    flags = "--method", method, "--run-dir", str(tmp_path)
    parsed = parse_with_config(Train, "train", [name, *flags])
    assert parsed.config == presets.find(name, method)


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    (["walk"], "unknown command walk: choose from list"),
    (["train"], "needs a config first"),
    (["train", "cifar"], "unknown config cifar: choose from digits"),
    (
      ["train", *TINY, "--method", "adam"],
      "unknown method adam (did you mean asam?): choose from sgd",
    ),
    (
      ["train", *TINY, "--method", "rst:chance=1"],
      "unknown setting of rst chance: choose from rho",
    ),
    (["train", *TINY, "--method", "rst:rho=big"], "rst: rho cannot be 'big'"),
    (["train", *TINY], "--run_dir"),
    (["train", *TINY, "--opt.kappa", "1"], "Unrecognized options: --opt.kappa"),
    (["train", *TINY, "--opt.rho", "small"], "Error parsing --opt.rho"),
    (["train", *TINY, "--training.unit", "days"], "invalid choice 'days'"),
    (["train", *TINY, "--training.budget", "0"], "training.budget must be at least 1; got 0"),
    (["train", *TINY, "--opt.rho", "-1"], "opt.rho must be finite and at least 0; got -1.0"),
    (["train", *TINY, "--method"], "--method"),
    (["train", *TINY, "--method", "looksam:update_interval=0"], "at least 1; got 0"),
    (["train", *TINY, "--method", "rst:probability=2"], "probability must be in [0, 1]"),
    (["train", *TINY, "--opt.learning-rate", "nan"], "learning_rate must be finite"),
    (["train", *TINY, "--opt.clip", "0"], "opt.clip must be finite and above 0; got 0.0"),
    (["train", *TINY, "--opt.warmup", "1"], "opt.warmup must be in [0, 1); got 1.0"),
    (["train", *TINY, "--opt.restart", "1"], "opt.restart must be above opt.warmup and below 1"),
    (["train", *TINY, "--opt.restart", ".5", "--opt.schedule", "wsd"], "needs opt.schedule cosine"),
    (["train", *TINY, "--opt.final", "2"], "opt.final must be in [0, 1]; got 2.0"),
    (["train", *TINY, "--training.seed", "-1"], "training.seed must be at least 0; got -1"),
    (["train", *TINY, "--training.seed", str(2**64)], "training.seed must be below 2**32; got"),
    (["train", *TINY, "--base", "sgd:momentum=nan"], "opt.momentum must be in [0, 1); got nan"),
    (["train", *TINY, "--base", "sgd:momentum=2"], "opt.momentum must be in [0, 1); got 2.0"),
    (["compare", *TINY, "--methods", "sgd", "--seeds", str(2**64)], "--seeds from 1 to 1000"),
    (["train", *TINY, "--training.label-smoothing", "1"], "must be in [0, 1); got 1.0"),
    (["train", *TINY, "--model.patch", "3"], "Mixer(patch=3, width=8, blocks=1) does not fit"),
    (["train", *TINY, "--data.train-examples", "1797"], "must be from 1 to 1796; got 1797"),
    (["train", *TINY, "--data.held-out", "0.0001"], "of 1437 examples leaves a part empty"),
    (["train", "llama-0.9m", "--data.length", "0"], "data.length must be at least 1; got 0"),
    (["train", "llama-0.9m", "--data.vocab-size", "256"], "must be at least 257; got 256"),
    (["train", "llama-0.9m", "--model.heads", "3"], "does not fit the data"),
    (["train", *TINY, "--data.batch-size", "12"], "12 does not divide over 8 devices"),
    (["train", *TINY, "--training.microbatches", "4"], "8 devices in 4 microbatches"),
    (["train", *TINY, "--training.fsdp", "3"], "fsdp 3 does not divide the 8 devices"),
  ],
)
def test_refuses_in_one_line(arguments, said, capsys, tmp_path):
  flag = "--run-dir" if arguments[0] == "train" else "--out"
  where = [] if said == "--run_dir" else [flag, str(tmp_path / "run")]
  assert said in refused(capsys, *arguments, *where)
  assert not (tmp_path / "run" / "config.json").exists()  # another command may have it


def test_a_comparison_is_refused_before_it_is_written(capsys, tmp_path):
  flags = "--methods", "sgd", "rst:probability=2", "--out", str(tmp_path / "out")
  for command in ("compare", "lifelong"):
    assert "probability must be in [0, 1]" in refused(capsys, command, *TINY, *flags)
  flags = "--methods", "rst", "rst:probability=0.5", "--out", str(tmp_path / "out")
  assert "each be another" in refused(capsys, "compare", *TINY, *flags)
  assert not (tmp_path / "out").exists()


def test_ctrl_c_says_one_line(capsys, monkeypatch):
  def interrupted(self, console):
    raise KeyboardInterrupt

  monkeypatch.setattr(List, "run", interrupted)
  assert main(["list"]) == 128 + signal.SIGINT
  assert capsys.readouterr().err == "python -m experiments: interrupted\n"


def test_a_method_s_settings_stand_behind_its_name():
  changed = presets.find("digits", "rst:probability=0.25,rho=0.1").opt
  assert changed.method == methods.Rst(probability=0.25, rho=0.1)
  assert changed == dataclasses.replace(presets.CONFIGS["digits"].opt, method=changed.method)
  found = presets.find("digits", "lookbehind:interpolation=0.5,eta=0.01").opt.method
  assert found == methods.Lookbehind(interpolation=0.5, eta=0.01)
  assert presets.find("demo", "rst:probability=1").opt.method == dataclasses.replace(
    presets.TUNED["demo"]["rst"].method, probability=1.0
  )


def test_refuses_the_directory_of_another_config(capsys, tmp_path):
  flags = "train", *TINY, "--run-dir", str(tmp_path / "run"), "--training.budget", "2"
  assert main(flags) == 0
  capsys.readouterr()
  line = refused(capsys, *flags, "--opt.rho", "0.1")
  assert line.endswith(
    "of another config, so name another --run_dir: --opt.rho is 0.05 there, 0.1 here"
  )
  assert main(flags) == 0  # nothing is lost


def test_missing_data(capsys, tmp_path, monkeypatch):
  def missing(self, split):
    raise FileNotFoundError("fashion is not prepared: run `prepare fashion`")

  monkeypatch.setattr(type(presets.CONFIGS["digits"].data.set), "source", missing)
  line = refused(capsys, "train", *TINY, "--run-dir", str(tmp_path / "run"))
  assert line.endswith("no data for digits: fashion is not prepared: run `prepare fashion`")


def test_configs_are_their_names():
  for name, config in presets.CONFIGS.items():
    assert config.name == name
    assert dataclasses.replace(config) == config


def test_the_demo_needs_few_packages():
  """What `make demo` installs: it would otherwise take minutes more."""
  program = (
    "import sys; from experiments import __main__; from experiments.commands import demo;"
    "print(*{name.partition('.')[0] for name in sys.modules})"
  )
  imported = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, check=True, text=True
  ).stdout.split()
  assert {"flax", "matplotlib", "tyro"} <= set(imported)
  assert not {"grain", "array_record", "tensorflow_datasets", "tokenizers"} & set(imported)


def test_a_checkpoint_of_another_version_is_not_called_damaged(tmp_path):
  """SAM's state once had no place for the state of an ascent."""
  checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
  checkpoints.save(1, {"count": jnp.int32(1)}, {})
  state = {"count": jax.ShapeDtypeStruct((), jnp.int32), "ascent": optax.EmptyState()}
  with pytest.raises(Refusal) as raised:
    checkpoints.restore(state)
  (line,) = str(raised.value).splitlines()
  assert line.endswith(f"which config.json names, or delete {tmp_path / 'run'} to train again")
  assert "damaged" not in line


def test_the_tab_key_completes_commands_and_flags(tmp_path):
  script = tmp_path / "completion"
  assert main(["completion", "bash", str(script)]) == 0
  words = "experiments", "train", "digits", "--opt.rh"
  press = f"source {script}; COMP_WORDS=({' '.join(words)}); COMP_CWORD=3; _tyro_experiments"
  done = subprocess.run(
    ["bash", "-c", f'{press}; echo "${{COMPREPLY[*]}}"'], capture_output=True, text=True
  )
  assert done.stdout.split() == ["--opt.rho"], done.stderr
