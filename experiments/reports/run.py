"""The report of one run: curves, and what was measured afterwards."""

from pathlib import Path

from rich.console import Console

from experiments import configs, figures, files, page, run, run_directory
from experiments.plots import own_metrics, style
from experiments.reports import parts


def write(directory: Path, console: Console) -> None:
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
  drawn = {"curves": lambda theme: figures.run_curves(rows, texts, theme)} | parts.metrics_figure(
    {configs.method_name(config): own_metrics.over_training([rows["train"]])},
    "Means over each twentieth of the steps.",
  )
  style.save_all(drawn, directory)
  console.print(said)
  body = [
    f"<p>{parts.setting(config)}</p>",
    f"<p>{said}</p>",
    *(page.picture(directory, name) for name in drawn),
    *parts.sections(directory, console),
    page.configuration(files.read_json(directory / "config.json")),
  ]
  page.write_page(directory / "report.html", texts[0], body)
  console.print(f"{directory / 'report.html'} and figures are written")
