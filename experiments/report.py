"""The demo's report: a table, figures and one self-contained page, from the run's files alone.

python -m experiments.report runs/demo      # draws everything again
"""

import base64
import html
import json
import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from experiments import figures

COLUMNS = (
  "method",
  "test\naccuracy,\n%",
  "minus\nsgd,\npaired",
  "steps",
  "gradients",
  "wall,\ns",
  "loss\nincrease",
)


def cells(row: dict) -> list[str]:
  """A row as the texts under ``COLUMNS``."""

  def with_error(key, sign="", digits=1):
    mean, error = row[key], row[key + "_error"]
    if mean is None:
      return "-"
    return f"{mean:{sign}.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")

  return [
    row["method"],
    with_error("test_accuracy"),
    "-" if row["method"] == "sgd" else with_error("difference", sign="+"),
    f"{row['steps']:.0f}",
    f"{row['gradients']:.0f}",
    f"{row['seconds']:.1f}",
    with_error("loss_increase", digits=3),
  ]


def terminal_table(rows: list[dict], caption: str) -> Table:
  table = Table(
    box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, caption=caption, caption_justify="left"
  )
  for column in COLUMNS:
    table.add_column(column, justify="left" if column == "method" else "right", no_wrap=True)
  for row in rows:
    table.add_row(*cells(row))
  return table


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>flatopt demo</title>
<style>
  :root {{ color-scheme: light dark; --ground: #fff; --ink: #1b1d21; --soft: #6a6f77;
    --line: #dfe2e6; --accent: #0072b2; }}
  @media (prefers-color-scheme: dark) {{ :root {{ --ground: #15171b; --ink: #eceef1;
    --soft: #9aa0a8; --line: #363b43; --accent: #56b4e9; }} }}
  body {{ margin: 0 auto; padding: 3rem 1.25rem 5rem; max-width: 52rem; background: var(--ground);
    color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }}
  h1 {{ font-size: 1.75rem; line-height: 1.2; margin: 0 0 .75rem; }}
  h2 {{ font-size: 1.15rem; margin: 3rem 0 .5rem; }}
  p {{ max-width: 42rem; margin: .5rem 0; }}
  .notice {{ border-left: 3px solid var(--accent); padding-left: .75rem; }}
  .wide {{ overflow-x: auto; }}
  table {{ border-collapse: collapse; width: 100%; margin: 1rem 0 .5rem; font-size: .9rem;
    font-variant-numeric: tabular-nums; }}
  th, td {{ padding: .4rem .6rem; text-align: right; white-space: nowrap;
    border-bottom: 1px solid var(--line); }}
  th {{ color: var(--soft); font-weight: 500; vertical-align: bottom; white-space: normal; }}
  th:first-child, td:first-child {{ text-align: left; padding-left: 0; }}
  td:first-child {{ font-weight: 600; }}
  .text td:nth-child(2), .text th:nth-child(2) {{ text-align: left; white-space: normal; }}
  .small {{ color: var(--soft); font-size: .875rem; }}
  img {{ display: block; width: 100%; height: auto; margin: 3.5rem 0 0; }}
  pre {{ overflow-x: auto; font-size: .8rem; }}
  summary {{ cursor: pointer; }}
</style>
<h1>Eleven optimizers, equal gradients</h1>
<p>{setting}</p>
{notice}
<div class="wide">{table}</div>
<p class="small">{caption}</p>
{figures}
<h2>How the hyper-parameters were chosen</h2>
<p>{tuning}</p>
<div class="wide text">{settings}</div>
<h2>Configuration</h2>
<details><summary>Resolved configuration and versions</summary><pre>{config}</pre></details>
</html>
"""


def html_table(header, rows) -> str:
  line = lambda tag, texts: "<tr>" + "".join(f"<{tag}>{html.escape(t)}</{tag}>" for t in texts)
  return "\n".join(["<table>", line("th", header), *(line("td", row) for row in rows), "</table>"])


def picture(out: Path, name: str) -> str:
  """Both versions inlined; the reader's colour scheme picks one."""
  light, dark = (
    "data:image/png;base64," + base64.b64encode((out / f"{name}{suffix}.png").read_bytes()).decode()
    for suffix in ("", "-dark")
  )
  return (
    f'<picture><source srcset="{dark}" media="(prefers-color-scheme: dark)">'
    f'<img src="{light}" alt="{name}: the table\'s numbers as a figure"></picture>'
  )


def texts(results: dict, config: dict) -> dict[str, str]:
  """What the terminal and the page say around the table."""
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
      f" budget. Wall: training alone, {results['workers']} runs at a time. Loss increase: under"
      f" SAM's perturbation, L(w + rho g/|g|) - L(w) with rho = {config['sharpness_rho']}, mean over"
      f" batches of {config['batch_size']} of the training set."
    ),
    "tuning": (
      "Eight trials a method, each of two seeds that are not used here, judged on 800 images that"
      " were held out of the training set. sgd's trials vary learning rate and weight decay; the"
      " others' vary their own settings, on what was chosen for sgd and on what the papers use."
      " experiments/demo_tuning.json holds every trial."
    ),
  }


def settings_rows(methods: dict[str, dict]) -> list[list[str]]:
  base = ("learning_rate", "weight_decay")
  own = lambda options: ", ".join(f"{k} {v:g}" for k, v in options.items() if k not in base) or "-"
  return [[m, own(o), *(f"{o[key]:g}" for key in base)] for m, o in methods.items()]


def write(out: Path, console: Console) -> None:
  """Prints the table, and writes report.html and the figures beside results.json."""
  results = json.loads((out / "results.json").read_text())
  resolved = json.loads((out / "config.json").read_text())
  config = resolved["config"]
  say = texts(results, config)
  figures.save_all(results, config, out)
  page = PAGE.format(
    setting=say["setting"],
    notice=f'<p class="notice">{say["notice"]}</p>' if say["notice"] else "",
    table=html_table(COLUMNS, map(cells, results["table"])),
    caption=say["caption"],
    figures="\n".join(picture(out, name) for name in figures.FIGURES),
    tuning=say["tuning"],
    settings=html_table(
      ("method", "own settings", "learning rate", "weight decay"), settings_rows(config["methods"])
    ),
    config=html.escape(json.dumps(resolved, indent=1)),
  )
  (out / "report.html").write_text(page)
  console.print(terminal_table(results["table"], say["caption"]))
  if say["notice"]:
    console.print(say["notice"], style="yellow")
  console.print(f"{out / 'report.html'}, figures, results.json and config.json are written")


if __name__ == "__main__":
  write(Path(sys.argv[1]), Console())
