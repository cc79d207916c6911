"""What pre-trained models forget: every run of a comparison, fine-tuned alike on a second corpus.

All start from where their method's run is evaluated, and take the same steps of the plain base
optimizer. A comparison that was killed goes on with the run that it was in, and repeats none that
is finished.
"""

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from experiments import config as configuration
from experiments import presets
from experiments.comparisons import table
from experiments.comparisons.directory import Runs, check, claim, with_training
from experiments.comparisons.sharing import Job, nobody_else, one_at_a_time, train_all
from experiments.config import Config, Data, DataSet, Refusal, files
from experiments.measures.compared_runs import runs_below
from experiments.measures.quantisation import WHOLE, at_each_precision, check_bits
from experiments.methods import Plain
from experiments.training import batches, saved_runs

LOSSES = "losses.json"  # of what is finished: by corpus, with whole weights and with few bits
CORPORA = "first", "second"


@dataclasses.dataclass(frozen=True)
class FineTuning:
  """What compare.json holds."""

  pretrained: str  # the comparison's directory, as seen from this one's
  first: Data  # that the comparison trained on
  config: Config  # the base alone, on the second corpus
  methods: tuple[str, ...]  # that pre-trained
  seeds: int
  learning_rates: tuple[float, ...]
  bits: tuple[int, ...]


def of_comparison(
  directory: Path,
  out: Path,
  *,
  data: str,
  steps: int,
  learning_rates: tuple[float, ...],
  bits: tuple[int, ...],
  examples: int | None,
) -> FineTuning:
  """The fine-tuning of all runs of a finished comparison; refuses what cannot be trained."""
  if not (directory / "compare.json").exists():
    raise Refusal(f"{directory} holds no comparison: there is no compare.json")
  runs = runs_below(directory)
  config: Config = configuration.from_dict(files.read_json(directory / "compare.json")["config"])
  try:
    first = config.data
    if examples is not None:
      first = dataclasses.replace(first, test_examples=examples)
    opt = dataclasses.replace(config.opt, method=Plain())
    rates = learning_rates or (opt.learning_rate,)
    for rate in rates:
      dataclasses.replace(opt, learning_rate=rate)
    config = dataclasses.replace(config, opt=opt, data=second_data(first, presets.data_set(data)))
    config = with_training(config, unit="steps", budget=steps, evaluations=1, start_from=None)
  except ValueError as error:
    raise Refusal(str(error)) from error
  check_bits(bits)
  if len(set(rates)) < len(rates):
    raise Refusal(f"--learning_rates must each be another; got {rates}")
  pretrained = Path(os.path.relpath(directory.resolve(), out.resolve())).as_posix()
  seeds = len(next(iter(runs.values())))
  return FineTuning(pretrained, first, config, tuple(runs), seeds, rates, bits)


def second_data(first: Data, second: DataSet) -> Data:
  """``first`` with another corpus, in whose examples a model of the first one makes sense."""
  if (second.task, second.classes) != (first.set.task, first.set.classes):
    raise Refusal(
      f"--data is {second.about}, {second.task} of {second.classes} classes; the comparison was"
      f" trained on {first.set.task} of {first.set.classes}"
    )
  if second == first.set:
    raise Refusal(f"--data is {second.about}, which the comparison was trained on")
  if getattr(second, "vocab_size", None) is not None:
    raise Refusal("--data: corpora share bytes alone, an encoding is learned from its own corpus")
  length, own = (getattr(one, "length", None) for one in (first.set, second))
  if length != own:
    raise Refusal(f"--data has windows of {own} tokens: length={length} is the comparison's")
  return dataclasses.replace(first, set=second)


def fine_tune(compared: FineTuning, out: Path, console: Console) -> None:
  """Runs what is not there yet and nobody trains; writes compare.json first, results.json last."""
  check({"base": compared.config})
  claim(out, compared)
  runs = Runs(out, console)
  train_all(lambda: unfinished(compared, runs), console)
  with one_at_a_time(out):
    write_results(compared, runs)


def unfinished(compared: FineTuning, runs: Runs) -> list[Job]:
  """What is not measured: a model before it is fine-tuned, then after it at each learning rate."""
  pairs = [(method, seed) for method in compared.methods for seed in range(compared.seeds)]
  jobs = [
    Job(path_of(*pair, rate), functools.partial(tune_and_measure, compared, runs, *pair, rate))
    for pair in pairs
    for rate in (None, *compared.learning_rates)
  ]
  return [job for job in jobs if not (runs.out.joinpath(*job.path) / LOSSES).exists()]


def path_of(method: str, seed: int, rate: float | None) -> tuple[str, ...]:
  """Where a model is measured: before it is fine-tuned, where there is no learning rate."""
  last = "before" if rate is None else f"rate-{rate:g}"
  return "runs", method, f"seed-{seed}", last


def run_config(compared: FineTuning, method: str, seed: int, rate: float) -> Config:
  """Runs of a seed see the same batches, whatever their method."""
  opt = dataclasses.replace(compared.config.opt, learning_rate=rate)
  up = "../" * len(path_of(method, seed, rate))
  start = f"{up}{compared.pretrained}/runs/{method}/seed-{seed}"
  return with_training(dataclasses.replace(compared.config, opt=opt), seed=seed, start_from=start)


def tune_and_measure(
  compared: FineTuning, runs: Runs, method: str, seed: int, rate: float | None
) -> None:
  """Fine-tunes, where there is a learning rate, and measures."""
  path = path_of(method, seed, rate)
  directory = runs.out.joinpath(*path)
  with nobody_else(directory):
    if rate is None:
      run = saved_runs.restore(runs.out / compared.pretrained / "runs" / method / f"seed-{seed}")
    else:
      runs.train(run_config(compared, method, seed, rate), *path)
      run = saved_runs.restore(directory)
    found = {}
    for name, data in zip(CORPORA, (compared.first, compared.config.data), strict=True):
      source = batches.evaluation_source(dataclasses.replace(compared.config, data=data))
      found[name] = at_each_precision(run, source, compared.bits)["loss"]
    files.write_json(directory / LOSSES, found)


def write_results(compared: FineTuning, runs: Runs) -> None:
  """Once all runs are measured, from their files; a table a learning rate and column."""
  found: dict[str, list[dict[str, Any]]] = {method: [] for method in compared.methods}
  tables = {}
  for rate in compared.learning_rates:
    by_method = {
      method: [one_run(compared, runs, method, seed, rate) for seed in range(compared.seeds)]
      for method in compared.methods
    }
    reference = compared.methods[0]
    tables[f"{rate:g}"] = {
      key: table.summarise(by_method, key=key, reference=reference, means=())
      for key in columns((WHOLE, *compared.bits))
    }
    for method, rows in by_method.items():
      found[method] += rows
  files.write_csv(runs.out / "results.csv", table.run_rows(found))
  files.write_json(runs.out / "results.json", {"runs": found, "tables": tables})


def columns(bits: Sequence[int]) -> list[str]:
  """What is told of a run: losses by corpus, time and bits, and what is forgotten, by bits."""
  losses = [f"{name}_{when}_{b}" for name in CORPORA for when in ("before", "after") for b in bits]
  return losses + [f"forgetting_{b}" for b in bits]


def one_run(
  compared: FineTuning, runs: Runs, method: str, seed: int, rate: float
) -> dict[str, Any]:
  """Losses before and after, and ``forgetting``: how far the first corpus's rose, at equal bits."""
  bits = WHOLE, *compared.bits
  row = {"seed": seed, "learning_rate": rate}
  row |= runs.train(run_config(compared, method, seed, rate), *path_of(method, seed, rate))
  for when, at in (("before", None), ("after", rate)):
    losses = files.read_json(runs.out.joinpath(*path_of(method, seed, at)) / LOSSES)
    row |= {
      f"{name}_{when}_{b}": x for name in CORPORA for b, x in zip(bits, losses[name], strict=True)
    }
  for b in bits:
    before, after = (np.float64(row[f"first_{when}_{b}"]) for when in ("before", "after"))
    row[f"forgetting_{b}"] = files.finite(after - before)
  return row
