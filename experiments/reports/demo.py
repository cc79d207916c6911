"""The report of demos by older versions, which had a file format of their own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console

from experiments.config import files
from experiments.measures import flatness
from experiments.measures.score import ACCURACY
from experiments.plots import curves as curve_figures
from experiments.plots import flatness as flatness_figures
from experiments.plots import landscapes, rankings, style
from experiments.reports import flatness as flat
from experiments.reports import page

COLUMNS = (
  "method",
  "test\naccuracy,\n%",
  "minus\nsgd,\npaired",
  "steps",
  "gradients",
  "wall,\ns",
  "loss\nincrease",
  "steps\na second",
)


def cells(row: dict) -> list[str]:
  """A row as the texts under ``COLUMNS``."""
  with_error = lambda key, **form: page.number(row[key], row[key + "_error"], **form)
  return [
    row["method"],
    with_error("test_accuracy"),
    "-" if row["method"] == "sgd" else with_error("difference", sign="+"),
    f"{row['steps']:.0f}",
    f"{row['gradients']:.0f}",
    f"{row['seconds']:.1f}",
    with_error("loss_increase", digits=3),
    f"{row['steps'] / row['seconds']:.0f}",
  ]


def texts(results: dict, config: dict) -> dict[str, str]:
  """The texts around the table, on the terminal and on the page."""
  cut = results["gradients"] < results["gradients_planned"]
  return {
    "setting": (
      f"5,000 MNIST digits: {config['train_examples']:,} to train on, {config['wrong_labels']:.0%}"
      f" of them with a wrong label, and {5000 - config['train_examples']:,} to test on. An"
      f" MLP-Mixer of {config['blocks']} blocks, trained by SGD with momentum"
      f" {config['momentum']} in batches of {config['batch_size']}; the learning rate falls along a"
      f" cosine to 0. Every run pays {results['gradients']} gradients, however many steps its method"
      " makes of them."
    ),
    "notice": (
      f"Cut from {results['gradients_planned']} to {results['gradients']} gradients a run, because"
      f" this machine is slow. The hyper-parameters were chosen at {results['gradients_planned']},"
      " so expect other differences."
      if cut
      else ""
    ),
    "caption": (
      f"Mean ± standard error over seeds {', '.join(map(str, config['seeds']))}. Minus sgd: paired,"
      " runs of one seed share initial params, wrong labels and the order of batches. Gradients:"
      " paid, as the optimizer's state counts them; a run ends with the step that reaches the"
      f" budget. Wall: training alone, {results['workers']} runs at a time; the process took"
      f" {results['peak_memory_mb']:,.0f} MB at most. Loss increase: under"
      f" SAM's perturbation, L(w + rho g/|g|) - L(w) with rho = {config['sharpness_rho']}, mean over"
      f" batches of {config['batch_size']} of the training set."
    ),
    "flatness": (
      f"Worst case: as above. Adaptive: the same in a ball that scales with the weights (eta 0,"
      f" rho {config['adaptive_rho']}), so that the scale of layers does not matter. Average: the loss's mean increase under Gaussian noise of standard"
      f" deviation {config['sharpness_sigma']} on every weight, 8 draws. Top eigenvalue (12 Lanczos"
      f" products) and trace (8 probes) of the training loss's Hessian. The last three on"
      f" four batches of the training set, wrong labels included."
    ),
    "tuning": (
      "Eight trials a method, each of two seeds that are not used here, judged on 800 images that"
      " were held out of the training set. sgd's trials vary learning rate and weight decay; the"
      " others' vary their own settings, on what was chosen for sgd and on what the papers use."
      " experiments/demo/tuning.json holds every trial."
    ),
  }


def make_figures(results: dict, config: dict) -> dict[str, Callable]:
  ranking = (
    f"Digits with {config['wrong_labels']:.0%} wrong training labels: test accuracy",
    f"{results['gradients']} gradients a run, whatever the method. Mean and standard error of"
    f" {len(config['seeds'])} seeds (ticks), paired by seed.",
  )
  curves = (
    "Test accuracy against the gradients paid",
    "Means over seeds, with the accuracy at the end. Dashed: sgd. Grey: the other methods.",
  )
  measure = ACCURACY
  return {
    "accuracy": lambda theme: rankings.ranking(results, measure, ranking, theme),
    "curves": lambda theme: curve_figures.curves(results, measure, curves, theme),
    "flatness": lambda theme: flatness_figures.flatness(results, flatness.MEASURES, theme),
    "landscapes": lambda theme: landscapes.contours(
      {m: np.array(losses) for m, losses in results["landscapes"].items()},
      config["landscape_span"],
      (
        "The training loss around the params",
        f"Along two filter-normalised random directions, seed {config['seeds'][0]}. Common levels.",
      ),
      theme,
    ),
  }


def settings_rows(methods: dict[str, dict]) -> list[list[str]]:
  base = ("learning_rate", "weight_decay")
  own = lambda options: ", ".join(f"{k} {v:g}" for k, v in options.items() if k not in base) or "-"
  return [[m, own(o), *(f"{o[key]:g}" for key in base)] for m, o in methods.items()]


def write(out: Path, console: Console) -> None:
  """Prints the table, and writes report.html and the figures beside results.json."""
  results, resolved = (files.read_json(out / name) for name in ("results.json", "config.json"))
  config = resolved["config"]
  text = texts(results, config)
  rows = results["table"]
  drawn = make_figures(results, config)
  style.save_all(drawn, out)
  settings = page.html_table(
    ("method", "own settings", "learning rate", "weight decay"), settings_rows(config["methods"])
  )
  parts = [
    f"<p>{text['setting']}</p>",
    f'<p class="notice">{text["notice"]}</p>' if text["notice"] else "",
    f'<div class="wide">{page.html_table(COLUMNS, map(cells, rows))}</div>',
    f'<p class="small">{text["caption"]}</p>',
    *(page.picture(out, name) for name in ("accuracy", "curves")),
    "<h2>How flat</h2>",
    f"<p>{flat.agreement(rows)}</p>",
    f'<div class="wide">{page.html_table(flat.columns(ACCURACY), map(flat.cells, rows))}</div>',
    f'<p class="small">{text["flatness"]}</p>',
    *(page.picture(out, name) for name in ("flatness", "landscapes")),
    f"<h2>How the hyper-parameters were chosen</h2>\n<p>{text['tuning']}</p>",
    f'<div class="wide text">{settings}</div>',
    page.configuration(resolved),
  ]
  page.write_page(out / "report.html", "Eleven optimizers, equal gradients", parts)
  console.print(page.terminal_table(COLUMNS, map(cells, rows), text["caption"], columns=7))
  means = ([cell.split(" ±")[0] for cell in flat.cells(row)] for row in rows)
  console.print(page.terminal_table(flat.columns(ACCURACY), means, flat.agreement(rows)))
  if text["notice"]:
    console.print(text["notice"], style="yellow")
  console.print(f"{out / 'report.html'}, figures, results.json and config.json are written")
