"""The report of what is kept at equal losses on the new corpus: its tables and a figure."""

from pathlib import Path

from rich.console import Console

from experiments.config import files
from experiments.measures.score import LOSS
from experiments.plots import forgetting as figures
from experiments.plots import style
from experiments.reports import page, significance

TITLES = {
  "gradients": "At as many gradients or fewer",
  "steps": "At as many steps",
}


def write(out: Path, console: Console) -> None:
  """The page, the figure and the tables, from forgetting.json."""
  found = files.read_json(out / "forgetting.json")
  config, reference = found["config"], found["reference"]
  score = LOSS._replace(reference=reference)
  texts = (
    f"{config['name']}: what is kept, for what is learned",
    f"Dashed: the strongest {reference} of as many steps; dotted: of as many gradients."
    f" Means of {found['seeds']} seeds.",
  )
  draw = lambda theme: figures.curves(found, texts, theme)
  style.save_all({"forgetting": draw}, out)
  body = [page.picture(out, "forgetting")]
  for name, rows in found["tables"].items():
    budget, _, bits = name.partition("_")
    what = f"the loss on the old corpus with {bits} bits a weight" if bits else "the distance"
    header = ("method", f"minus {reference},\npaired", significance.COLUMN, "to", "gradients")
    cells = [
      [
        style.label_of(row["method"]),
        score.text(row["difference"], row["difference_error"], sign="+"),
        significance.cell(row),
        style.label_of(row["rival"]),
        f"{row['gradients']:,.0f}",
      ]
      for row in rows
    ]
    caption = f"{TITLES[budget]}: {what}, to the strongest of {reference}'s runs.{significance.caption(rows)}"
    body += [f"<h2>{caption}</h2>", f'<div class="wide">{page.html_table(header, cells)}</div>']
    console.print(page.terminal_table(header, cells, caption))
  rates = ", ".join(f"{rate:g}" for rate in found["learning_rates"])
  say = (
    f"Fine-tuned for {config['training']['budget']:,} steps at rates {rates}. Distance: the mean difference of the losses on the old corpus at equal losses on the new one,"
    " from the lowest that both reach to the higher of the two at the smallest rate."
  )
  body += [f'<p class="small">{say}</p>', page.configuration(config)]
  console.print(say)
  page.write_page(out / "report.html", texts[0], body)
  console.print(f"{out / 'report.html'} and forgetting.png are written")
