"""The report of the steps that methods save: a table and a figure."""

from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.config import files
from experiments.plots import budgets, style
from experiments.reports import page


def write(out: Path, console: Console) -> None:
  """The page, the figure and the table, from speed_up.json."""
  found = files.read_json(out / "speed_up.json")
  reference, config = found["reference"], found["config"]
  style.save_all({"speed-up": lambda theme: budgets.final_loss(found, theme)}, out)
  header = (
    "method",
    "steps",
    "n",
    "test loss,\nnats",
    f"{reference}'s steps\nover own",
    "in\ngradients",
    *("gradients", "steps\na second", "peak,\nMB"),
  )
  rows = [
    [
      row["method"],
      f"{row['steps']:,}",
      str(row["n"]),
      page.number(row["loss"], row["loss_error"], digits=4),
      *(("-", "-") if row["method"] == reference else speed_up_texts(row)),
      f"{row['gradients']:,.0f}",
      f"{row['steps_per_second']:.1f}",
      f"{row['peak_memory_mb']:,.0f}",
    ]
    for row in found["rows"]
  ]
  caption = (
    f"Mean ± standard error of n seeds. Each row is runs of that many steps with a schedule of"
    f" their own. Steps over own: steps after which {reference} would end at the same loss, loss"
    " being linear in the logarithm of the steps between its rows and beyond, over the steps taken;"
    " paired by seed, and over every seed. In gradients: over the gradients paid instead."
  )
  body = [
    f'<div class="wide">{page.html_table(header, rows)}</div>',
    f'<p class="small">{caption}</p>',
    page.picture(out, "speed-up"),
    page.configuration(config),
  ]
  page.write_page(out / "report.html", f"{config['name']}: steps to the same loss", body)
  console.print(page.terminal_table(header, rows, caption, columns=5))
  console.print(f"{out / 'report.html'} and speed-up.png are written")


def speed_up_texts(row: dict[str, Any]) -> tuple[str, str]:
  """The speed-up in steps, with the number of seeds for which it was drawn on, and in gradients."""
  said = page.number(row["speed_up"], row["speed_up_error"], digits=2)
  drawn_on = row.get("drawn_on")
  return said + (f",\n{drawn_on} drawn on" if drawn_on else ""), page.number(
    row["in_gradients"], digits=2
  )
