"""The report of what fine-tuned models forget: two tables a learning rate, and a figure."""

from pathlib import Path

from rich.console import Console

from experiments.comparisons import fine_tuning
from experiments.measures.quantisation import WHOLE
from experiments.measures.score import LOSS
from experiments.plots import fine_tuning as figures
from experiments.plots import style
from experiments.reports import page, paired, parts

COLUMNS = {
  "forgetting_32": "forgetting",
  "first_before_32": "first:\nbefore",
  "first_after_32": "first:\nafter",
  "second_before_32": "second:\nbefore",
  "second_after_32": "second:\nafter",
}


def write(out: Path, console: Console) -> None:
  spec, compared = parts.read_spec(out, fine_tuning.FineTuning)
  tables = parts.read_results(out, "fine-tune")["tables"]
  config, reference = compared.config, compared.methods[0]
  few = min(compared.bits)
  rates = ", ".join(tables)
  texts = (
    f"{config.name}: what is forgotten, and what is learned",
    f"Ends of {config.training.budget:,} steps, means and standard errors of {compared.seeds} seeds."
    f" Dots grow with the learning rate: {rates}.",
  )
  panels = {WHOLE: "float32", few: f"{few} bits a weight"}
  draw = lambda theme: figures.kept_and_learned(tables, panels, texts, theme)
  style.save_all({"fine-tuning": draw}, out)
  say = caption(compared) + paired.caption(next(iter(tables.values())))
  body = [
    f"<p>{parts.setting(config)} Every model starts from the end of a run of"
    f" <code>{compared.pretrained}</code>, which was trained on {compared.first.set.about}, and takes"
    f" {config.training.budget:,} steps of the same optimizer on {config.data.set.about}.</p>",
    f'<p class="small">{say}</p>',
  ]
  for rate, found in tables.items():
    body.append(f"<h2>Learning rate {rate}</h2>")
    # Terminals have room for the forgetting of the second.
    for columns, shown in ((COLUMNS, None), (at_bits(compared.bits), 1 + len(compared.bits))):
      rows = paired.rows({key: found[key] for key in columns}, LOSS, reference)
      header = "method", *columns.values()
      body.append(f'<div class="wide">{page.html_table(header, rows)}</div>')
      under = f"Learning rate {rate}."
      console.print(page.terminal_table(header, paired.narrow(rows), under, shown))
  body += [page.picture(out, "fine-tuning"), page.configuration(spec)]
  console.print(say)
  page.write_page(out / "report.html", f"{config.name}: fine-tuned", body)
  console.print(f"{out / 'report.html'} and fine-tuning.png are written")


def at_bits(bits: tuple[int, ...]) -> dict[str, str]:
  """Columns and their headers, of losses with few bits a weight."""
  found = {f"forgetting_{b}": f"forgetting,\n{b} bits" for b in bits}
  found |= {f"first_after_{b}": f"first:\nafter,\n{b} bits" for b in bits}
  return found | {f"second_after_{b}": f"second:\nafter,\n{b} bits" for b in bits}


def caption(compared: fine_tuning.FineTuning) -> str:
  examples = compared.first.test_examples
  of = f"the first {examples:,} test windows of each" if examples else "the test sets of both"
  return (
    f"Losses in nats a token, on {of}. First: {compared.first.set.about}. Second:"
    f" {compared.config.data.set.about}. Forgetting: how far the loss on the first rose, with equal"
    " bits before and after. With fewer bits than float32's every kernel and embedding is rounded to"
    " nearest, symmetric around zero, with a scale for each output channel. Mean ± standard error"
    f" over {compared.seeds} seeds; minus {compared.methods[0]}: paired, runs of a seed see the same"
    " batches."
  )
