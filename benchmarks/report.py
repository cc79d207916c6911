"""Makes the tables of a run, and the page that contains them."""

import pathlib
from collections.abc import Iterable
from typing import Any

STEP_COLUMNS = (
  "method",
  "time / base",
  "interval",
  "gradients",
  "flops / base",
  "bytes accessed / base",
  "temporary MB",
  "above base, in params",
  "state bytes a param",
  "compile s",
)

INTRODUCTION = """# What the methods cost

`make bench` writes this page, `results.json` and the figures. This page comes from: {command},
jax {jax}, optax {optax}, {device}.

- **time / base**: the time of a step, divided by the time of the steps of the base optimizer (SGD
  with momentum) that ran just before and after it. It is the median over {rounds} runs. The
  interval contains the true median with a probability of 95 % or more, and assumes no
  distribution. The row of the base shows the noise: it compares a run of the base with the run of
  the base before it. The process keeps the memory that it frees, where the C library is glibc:
  otherwise a step also pays for fresh pages, how many depends on what ran before it.
- **gradients**: gradients per step, on average. A Hessian-vector product counts as 2.
- **flops**, **bytes accessed**: what XLA counts in the compiled step. Of a conditional it counts
  the most expensive branch, so `rst`, `sala`, `looksam` and `ire` are cheaper on average than these
  columns say. Of a loop it counts one iteration, so `lookbehind` is more expensive than they say,
  unless it is unrolled.
- **temporary**: memory in addition to arguments and results; params and state are donated.
  **Above base, in params**: how much more of it the method needs than the base, in copies of the
  params.
- **state**: what the method keeps between steps in addition to the base, for float32 params.

Where PyTorch is installed, a second table for each model has the methods of pytorch_optimizer. The
module has the same params and batch, and its logits are checked. The gradients are counted.
"""


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
  """Makes a Markdown table."""
  columns = list(columns)
  line = lambda cells: "| " + " | ".join(cells) + " |"
  return "\n".join([line(columns), "|---" + "|---:" * (len(columns) - 1) + "|", *map(line, rows)])


def step_table(measured: dict[str, Any]) -> str:
  """Makes the table of one model, with times if there are any."""
  base, size = measured["rows"]["base"], measured["num_params"]
  rows = []
  for name, row in measured["rows"].items():
    over_base = lambda key, row=row: (
      f"{row[key] / base[key]:.3f}" if row[key] is not None and base[key] else ""
    )
    temp, base_temp = row["temp_bytes"], base["temp_bytes"]
    rows.append(
      [
        name,
        *times(row.get("time")),
        f"{row['gradients']:g}",
        over_base("flops"),
        over_base("bytes_accessed"),
        "" if temp is None else f"{temp / 1e6:.2f}",
        "" if temp is None else f"{(temp - base_temp) / 4 / size:.2f}",
        f"{(row['state_bytes'] - base['state_bytes']) / size:.2f}",
        f"{row['compile_seconds']:.1f}",
      ]
    )
  return f"### {measured['model']}: {size:,} params\n\n{table(STEP_COLUMNS, rows)}\n"


def torch_table(measured: dict[str, Any]) -> str:
  """Makes the table of the peers in PyTorch on one model, beside our methods."""
  peers, ours = measured["torch"], measured["rows"]
  rows = []
  for name, row in peers["rows"].items():
    cells = [row["peer"], f"{row['gradients']:g}", *_steps(row["time"])]
    rows.append([*cells, name, f"{ours[name]['gradients']:g}", *_steps(ours[name]["time"])])
  versions = ", ".join(f"{name} {version}" for name, version in peers["versions"].items())
  columns = ("gradients", "ms", "time / base", "interval")
  return (
    f"The same model in PyTorch, relative to PyTorch's SGD ({versions}, {peers['threads']} "
    f"threads):\n\n{table(('PyTorch', *columns, 'JAX', *columns), rows)}\n"
  )


def _steps(ratio: dict[str, float]) -> tuple[str, str, str]:
  """Returns the text for the milliseconds of a step, for its ratio and for the interval."""
  return f"{1e3 * ratio['seconds']:.3g}", *times(ratio)


def model_tables(measured: dict[str, Any]) -> str:
  """Makes the tables of one model: our methods, and the peers in PyTorch if there are any."""
  tables = [step_table(measured), *([torch_table(measured)] if measured["torch"] else [])]
  return "\n".join(tables)


def exact_table(models: list[dict[str, Any]]) -> str:
  """Makes the table of the docs from exact numbers, with two columns for each model."""
  columns = [f"{kind}, {m['model']}" for kind in ("bytes accessed", "memory") for m in models]
  rows = []
  for name in models[0]["rows"]:
    measured = [(m["rows"][name], m["rows"]["base"], 4 * m["num_params"]) for m in models]
    cells = [f"{row['bytes_accessed'] / base['bytes_accessed']:.2f}" for row, base, _ in measured]
    cells += [
      f"{(row['temp_bytes'] - base['temp_bytes']) / size:.2f}" for row, base, size in measured
    ]
    row, base, size = measured[0]
    state = 4 * (row["state_bytes"] - base["state_bytes"]) / size
    rows.append([name, f"{row['gradients']:g}", *cells, f"{state:.0f}"])
  return table(["method", "gradients", *columns, "state"], rows)


def replace_part(page: pathlib.Path, command: str, text: str) -> None:
  """Puts ``text`` between the comments that name the command in a page."""
  begin, end = f"<!-- from: {command} -->\n", "<!-- end -->\n"
  before, marker, rest = page.read_text().partition(begin)
  if not marker or end not in rest:
    raise SystemExit(f"{page}: no {begin.strip()} with an end")
  page.write_text(f"{before}{begin}\n{text.strip()}\n\n{end}{rest.partition(end)[2]}")


def times(ratio: dict[str, float] | None) -> tuple[str, str]:
  """Returns the text for a median and for its interval."""
  if ratio is None:
    return "", ""
  return f"{ratio['median']:.2f}", f"{ratio['low']:.2f} to {ratio['high']:.2f}"


def growth_tables(results: dict[str, Any]) -> str:
  """Makes the tables of how costs grow."""
  parts = [
    "## With params: the optimizer's own part\n",
    "The time of a step whose gradient is the params themselves, in ms. In brackets: temporary",
    "memory, in copies of the params.\n",
    params_table(results["params"]),
    "\n## With k\n",
    "The time on the MLP, divided by the time of the base.\n",
    table(
      ("method", "k", "time / base", "interval", "temporary MB"),
      (
        [row["series"], str(row["k"]), *times(row["time"]), f"{(row['temp_bytes'] or 0) / 1e6:.2f}"]
        for row in results["k"]
      ),
    ),
    "\n## With devices\n",
    "The devices are virtual devices of one CPU, which share its cores. The batch of the MLP is",
    "split over them, and the params are replicated. The time is divided by the time of the base",
    "on the same number of devices.\n",
    table(
      ("method", "devices", "time / base", "interval"),
      ([row["name"], str(row["devices"]), *times(row["time"])] for row in results["devices"]),
    ),
    "\n## kth_smallest\n",
    "In seconds, for float32. The time of the sort includes its compilation.\n",
    table(
      ("entries", "kth_smallest", "numpy.partition", "jax.numpy.sort", "the same value"),
      (
        [
          f"{row['size']:,}",
          *(f"{row[n]:.3f}" for n in ("kth_smallest", "numpy.partition", "jax.numpy.sort")),
          "yes" if row["same"] else "no",
        ]
        for row in results["selection"]
      ),
    ),
  ]
  return "\n".join(parts) + "\n"


def params_table(rows: list[dict[str, Any]]) -> str:
  """Makes the table of times by number of params."""
  sizes = sorted({row["size"] for row in rows})
  by_name: dict[str, dict[int, dict[str, Any]]] = {}
  for row in rows:
    by_name.setdefault(row["name"], {})[row["size"]] = row

  def cell(row: dict[str, Any]) -> str:
    copies = "" if row["temp_bytes"] is None else f" ({row['temp_bytes'] / 4 / row['size']:.2f})"
    return f"{1e3 * row['seconds']:.3g}{copies}"

  lines = ([name, *(cell(by_size[size]) for size in sizes)] for name, by_size in by_name.items())
  return table(["method", *(f"{size:,}" for size in sizes)], lines)


def page(results: dict[str, Any]) -> str:
  """Makes the whole page."""
  introduction = INTRODUCTION.format(**(results | results["versions"]))
  figures = ["![Time / time of the base](figures/steps-light.png)"]
  growth = []
  if "params" in results:
    figures.append("![How costs grow](figures/growth-light.png)")
    growth.append(growth_tables(results))
  tables = map(model_tables, results["models"])
  parts = [introduction, *figures, "\n## Steps\n", *tables, *growth]
  return "\n".join(parts)
