"""Reports of runs and comparisons, from their files alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments import comparison, configs, figures, files, page, run, run_directory
from experiments import config as configuration
from experiments.config import Config, Refusal
from experiments.demo import report as demo_report
from experiments.plots import style


def write(directory: Path, console: Console) -> None:
  """report.html and figures in ``directory``, and the table on the terminal."""
  if (directory / "compare.json").exists():
    if "tasks" in files.read_json(directory / "compare.json"):
      from experiments import lifelong_report  # which builds on this file

      lifelong_report.write(directory, console)
    else:
      write_comparison(directory, console)
  elif (directory / "metrics.jsonl").exists():
    write_run(directory, console)
  elif (directory / "results.json").exists():
    demo_report.write(directory, console)
  else:
    raise Refusal(f"{directory} holds neither a run nor a finished comparison")


def setting(config: Config) -> str:
  training, data = config.training, config.data
  noise = f", {data.wrong_labels:.0%} of the training labels wrong" if data.wrong_labels else ""
  smooth = f"; label smoothing {training.label_smoothing:g}" if training.label_smoothing else ""
  return (
    f"{data.set.about}{noise}; batches of {data.batch_size}. {type(config.model).__name__} in"
    f" {training.compute_dtype}, {config.opt.base.name} with a"
    f" {'cosine' if config.opt.decay == 'cosine' else 'stepwise'} decay{smooth}."
  )


COLUMNS = (
  "method",
  "n",
  "{label}",
  "minus {reference},\npaired",
  *("steps", "gradients", "wall,\ns", "steps\na second", "peak,\nMB"),
)


def write_comparison(out: Path, console: Console) -> None:
  spec, compared = read_spec(out, comparison.Comparison)
  results = read_results(out, "compare")
  measure = comparison.measure(compared)
  drawn = comparison_figures(compared, results, measure)
  style.save_all(drawn, out)
  header = [
    column.format(label=measure.label.replace(", ", ",\n"), reference=measure.reference)
    for column in COLUMNS
  ]
  rows = [comparison_cells(row, measure) for row in results["table"]]
  budget = f"{compared.amount:,} {compared.unit}"
  tuning = (
    f"{compared.trials} tuning trials a method, judged on {comparison.HELD_OUT:.0%} of the training"
    f" set with seed {comparison.TRIAL_SEED}"
    if compared.trials
    else "No tuning here: the settings are the config's"
  )
  caption = (
    f"Mean ± standard error of n seeds. Minus {measure.reference}: paired, runs of a seed share"
    f" initial params, wrong labels and the order of batches. Wall: steps alone. {tuning}."
  )
  parts = [
    f"<p>{setting(compared.config)} Every run is given {budget}.</p>",
    f'<div class="wide">{page.html_table(header, rows)}</div>',
    f'<p class="small">{caption}</p>',
    *(page.picture(out, name) for name in drawn),
    settings_table(results["chosen"]),
    page.configuration(spec),
  ]
  page.write_page(out / "report.html", f"{compared.config.name}: equal {compared.unit}", parts)
  console.print(page.terminal_table(header, rows, caption))
  console.print(f"{out / 'report.html'} and figures are written")


def comparison_cells(row: dict[str, Any], measure: figures.Measure) -> list[str]:
  own, difference = row[measure.key], row["difference"]
  is_reference = row["method"] == measure.reference or difference is None
  return [
    row["method"],
    str(row["n"]),
    "diverged" if own is None else measure.text(own, row[measure.key + "_error"]),
    "-" if is_reference else measure.text(difference, row["difference_error"], sign="+"),
    *(f"{row[name]:,.0f}" for name in ("steps", "gradients")),
    f"{row['seconds']:.1f}",
    f"{row['steps_per_second']:.1f}",
    f"{row['peak_memory_mb']:,.0f}",
  ]


def read_spec(out: Path, kind: type) -> tuple[dict[str, Any], Any]:
  """What compare.json holds, and the comparison that it makes."""
  spec = files.read_json(out / "compare.json")
  fields = {n: configuration.from_dict(value) for n, value in spec.items() if n != "versions"}
  return spec, kind(**fields)


def read_results(out: Path, command: str) -> dict[str, Any]:
  if not (out / "results.json").exists():
    raise Refusal(f"{out}: the comparison is not finished; the same `{command}` goes on")
  return files.read_json(out / "results.json")


def settings_table(chosen: dict[str, Any]) -> str:
  rows = [
    [name, f"{opt['learning_rate']:.3g}", f"{opt['weight_decay']:.3g}", own_settings(opt)]
    for name, opt in chosen.items()
  ]
  table = page.html_table(("method", "learning rate", "weight decay", "own"), rows)
  return f'<h2>Settings</h2>\n<div class="wide">{table}</div>'


def own_settings(opt: dict[str, Any]) -> str:
  own = {name: value for name, value in opt["method"].items() if name != "type"}
  return ", ".join(f"{name} {value:.3g}" for name, value in own.items()) or "-"


def comparison_figures(
  compared: comparison.Comparison, results: dict, measure: figures.Measure
) -> dict[str, Callable]:
  name, what = compared.config.name, measure.label.split(",")[0]
  ranking = (
    f"{name}: {what}",
    f"{compared.amount:,} {compared.unit} a run. Mean and standard error of {compared.seeds} seeds"
    " (ticks), paired by seed.",
  )
  curves = (
    f"{name}: {what} against the gradients paid",
    f"Means over seeds, and where they end. Dashed: {measure.reference}. Grey: the others.",
  )
  return {
    "ranking": lambda theme: figures.ranking(results, measure, ranking, theme),
    "curves": lambda theme: figures.curves(results, measure, curves, theme),
  }


def write_run(directory: Path, console: Console) -> None:
  config = run_directory.read_config(directory)
  rows = {split: run_directory.read_metrics(directory, split) for split in ("train", "test")}
  summary = directory / "summary.json"
  said = (
    run.sentence(files.read_json(summary))
    if summary.exists()
    else "Not finished: the same `train` goes on."
  )
  texts = (
    f"{config.name} with {configs.method_name(config)}",
    f"Seed {config.training.seed}. Light: training batches. Strong: test set.",
  )
  drawn = {"curves": lambda theme: figures.run_curves(rows, texts, theme)}
  style.save_all(drawn, directory)
  parts = [
    f"<p>{setting(config)}</p>",
    f"<p>{said}</p>",
    page.picture(directory, "curves"),
    page.configuration(files.read_json(directory / "config.json")),
  ]
  page.write_page(directory / "report.html", texts[0], parts)
  console.print(said)
  console.print(f"{directory / 'report.html'} and curves.png are written")
