"""The report of what methods reach for the gradients they pay: a table and a figure."""

from pathlib import Path

from rich.console import Console

from experiments.config import files
from experiments.measures.score import score_of_table
from experiments.plots import frontier, style
from experiments.reports import page, significance


def write(out: Path, console: Console) -> None:
  """The page, the figure and the table, from frontier.json."""
  found = files.read_json(out / "frontier.json")
  rows, config, reference = found["rows"], found["config"], found["reference"]
  score = score_of_table(rows)._replace(reference=reference)
  style.save_all({"frontier": lambda theme: frontier.frontier(found, score, theme)}, out)
  header = (
    "method",
    score.label.replace(", ", ",\n"),
    f"minus {reference},\npaired",
    significance.COLUMN,
    *(("keeps,\np",) if found.get("keeps") else ()),
    *("budget", "gradients", "on the\nfrontier", "n"),
  )
  cells = [
    [
      style.label_of(row["label"]),
      score.text(row[score.key], row[score.key + "_error"]),
      score.text(row["difference"], row["difference_error"], sign="+"),
      significance.cell(row),
      *((significance.p_text(row["keeps_p"]),) if found.get("keeps") else ()),
      f"{row['amount']:,} {row['unit']}",
      f"{row['gradients']:,.0f}",
      "yes" if row["on_frontier"] else "",
      str(row["n"]),
    ]
    for row in rows
  ]
  keeps = (
    f" Keeps: one-sided test against being {found['margin']:g} or more behind {found['keeps']} of the"
    " same budget, corrected alike."
    if found.get("keeps")
    else ""
  )
  caption = (
    f"Mean ± standard error of n seeds, cheapest first. Minus {reference}: paired by seed; of its runs"
    " that pay no more gradients, those with the best mean."
    f"{significance.caption(rows)}{keeps} On the frontier: no method that pays as few gradients has a better mean."
  )
  body = [
    f'<div class="wide">{page.html_table(header, cells)}</div>',
    f'<p class="small">{caption}</p>',
    *significance.section(rows, score),
    page.picture(out, "frontier"),
    page.configuration(config),
  ]
  page.write_page(out / "report.html", f"{config['name']}: what a gradient buys", body)
  verdicts = significance.verdicts(rows, score)
  console.print(page.terminal_table(header, cells, f"{verdicts} {caption}".strip(), columns=6))
  console.print(f"{out / 'report.html'} and frontier.png are written")
