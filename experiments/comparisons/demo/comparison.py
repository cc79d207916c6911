"""Eleven methods on digits with wrong labels, at equal gradients: what `make demo` runs.

5,000 MNIST digits, 40 % of the training labels wrong, a two-block MLP-Mixer: memorising the wrong
labels costs test accuracy, so flat minima show. Every run pays the same number of gradients,
whatever its method makes of them. `tuning.py` chose the hyper-parameters, and
`experiments/demo/tuning.json` holds them beside all that was tried.
"""

import dataclasses
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
from rich import progress
from rich.console import Console

from experiments.comparisons import table
from experiments.comparisons.demo import data, flatness, training
from experiments.comparisons.demo.config import Config
from experiments.config import files
from experiments.training import peak_memory

# What else takes time, in gradients of the default model, so that it follows the machine's speed.
COMPILING = 1600  # a method
MEASURING = 350  # a run's test accuracy and sharpness


def compare(config: Config, out: Path, seconds: float, console: Console) -> None:
  """Trains every method with every seed; writes config.json and results.json to ``out``."""
  started = time.perf_counter()
  peak_memory.forget_peak()
  # XLA gives a model of this size one core; threads of Python give it the others.
  workers = os.cpu_count() or 1
  jobs = [(seed, method) for seed in config.seeds for method in config.methods]
  digits = data.split(data.mnist_5k(), config.train_examples)

  with console.status("measuring what a gradient costs"):
    evaluation = training.compile_evaluation(config, *digits)
    ms = ms_per_gradient(config, evaluation, digits, workers)
  planned = config.gradients
  gradients, expected = plan(config, ms, workers, seconds)
  config = dataclasses.replace(config, gradients=gradients)
  console.print(
    f"{len(jobs)} runs of {gradients} gradients, {workers} at a time, {ms:.1f} ms a gradient:"
    f" about {expected:.0f} s"
  )
  if gradients < planned:
    console.print(f"cut from {planned} gradients a run, to take {seconds:.0f} s", style="bold")

  tasks = {seed: training.make_task(config, seed, *digits) for seed in config.seeds}
  runs = {method: [] for method in config.methods}
  landscapes = {}
  with progress_display(console) as display, ThreadPoolExecutor(workers) as pool:
    bar = display.add_task("compiling", total=len(runs), note="methods")
    first = tasks[config.seeds[0]]
    measures = pool.submit(
      flatness.compile_flatness, config, evaluation.init_params(0), first.train
    )

    def compile_method(method):
      program = training.compile_program(config, method, evaluation, first)
      display.advance(bar)
      return program

    compiled = dict(zip(runs, pool.map(compile_method, runs), strict=True))
    budget = len(config.seeds) * config.gradients
    bars = {method: display.add_task(method, total=budget, note="gradients") for method in runs}
    all_bar = display.add_task("all", total=budget * len(runs), note="gradients")

    def train(job):
      seed, method = job
      paid = 0

      def on_chunk(gradients, test_accuracy):
        nonlocal paid
        note = f"gradients, seed {seed} at {test_accuracy:.1f} %"
        display.update(bars[method], advance=gradients - paid, note=note)
        display.advance(all_bar, gradients - paid)
        paid = gradients

      task = tasks[seed]
      result, params = training.train(config, compiled[method], evaluation, task, seed, on_chunk)
      measured = measures.result().measure(params, task.train)
      if method in flatness.PICTURED and seed == config.seeds[0]:
        landscapes[method] = np.asarray(measures.result().landscape(params, task.train))
      return result | {name: files.finite(value) for name, value in measured.items()}

    for (_, method), result in zip(jobs, pool.map(train, jobs), strict=True):
      runs[method].append(result)

  files.write_json(
    out / "config.json", {"config": dataclasses.asdict(config), "versions": files.versions()}
  )
  rows = table.summarise(runs, with_error=tuple(flatness.MEASURES))
  files.write_csv(out / "results.csv", table.run_rows(runs))
  files.write_json(
    out / "results.json",
    {
      "gradients": config.gradients,
      "gradients_planned": planned,
      "ms_per_gradient": ms,
      "workers": workers,
      "seconds": time.perf_counter() - started,
      "peak_memory_mb": peak_memory.peak_mb(),
      "table": rows,
      "rank_correlations": flatness.rank_correlations(rows),
      "landscapes": {m: landscapes[m].tolist() for m in config.methods if m in landscapes},
      "runs": runs,
    },
  )


def ms_per_gradient(config: Config, evaluation, digits, workers: int) -> float:
  """Milliseconds of one gradient while every worker computes its own."""
  config = dataclasses.replace(config, gradients=40)
  task = training.make_task(config, 0, *digits)
  program = training.compile_program(config, "sgd", evaluation, task)
  runs = [program.start(evaluation.init_params(0)) for _ in range(workers)]
  with ThreadPoolExecutor(workers) as pool:
    before = time.perf_counter()
    jax.block_until_ready(list(pool.map(lambda run: program.advance(run, 40, task), runs)))
  return (time.perf_counter() - before) / 40 * 1000


def plan(config: Config, ms: float, workers: int, seconds: float) -> tuple[int, float]:
  """Gradients a run that fit into ``seconds``, and the seconds that they take."""
  rounds = math.ceil(len(config.seeds) * len(config.methods) / workers)
  fixed = rounds * MEASURING + math.ceil(len(config.methods) / workers) * COMPILING
  affordable = int((1000 * seconds / ms - fixed) / rounds)
  gradients = max(1, min(config.gradients, affordable))
  return gradients, (rounds * gradients + fixed) * ms / 1000


def progress_display(console: Console) -> progress.Progress:
  return progress.Progress(
    progress.TextColumn("{task.description:<10}"),
    progress.BarColumn(bar_width=30),
    progress.MofNCompleteColumn(),
    progress.TextColumn("{task.fields[note]}"),
    progress.TimeRemainingColumn(),
    console=console,
  )
