"""The report of one run: curves, and later measurements."""

from pathlib import Path

from rich.console import Console

from experiments.comparisons import own_metrics
from experiments.config import files
from experiments.methods import method_name
from experiments.plots import curves, style
from experiments.reports import page, parts
from experiments.training import metric_files, run_directory
from experiments.training.display import sentence


def write(directory: Path, console: Console) -> None:
  config = run_directory.read_config(directory)
  evaluated_on = config.data.evaluated_on
  rows = {split: metric_files.read_metrics(directory, split) for split in ("train", evaluated_on)}
  result = (
    sentence(run_directory.read_summary(directory))
    if (directory / run_directory.SUMMARY).exists()
    else "Not finished: run the same `train` again to continue."
  )
  texts = (
    f"{config.name} with {method_name(config.opt)}",
    f"Seed {config.training.seed}. Light: training batches. Strong: {evaluated_on} set.",
  )
  drawn = {"curves": lambda theme: curves.run_curves(rows, texts, theme)} | parts.metrics_figure(
    {method_name(config.opt): own_metrics.over_training([rows["train"]])},
    "Means over each twentieth of the steps.",
  )
  style.save_all(drawn, directory)
  console.print(result)
  body = [
    f"<p>{parts.setting(config)}</p>",
    f"<p>{result}</p>",
    *(page.picture(directory, name) for name in drawn),
    *parts.sections(directory, console),
    page.configuration(files.read_json(directory / "config.json")),
  ]
  page.write_page(directory / "report.html", texts[0], body)
  console.print(f"{directory / 'report.html'} and figures are written")
