"""Tables whose columns are all compared with the reference, seed by seed."""

from collections.abc import Mapping
from typing import Any

from experiments.measures.score import Score
from experiments.plots import style
from experiments.reports import significance


def rows(
  tables: Mapping[str, list[dict[str, Any]]], score: Score, reference: str
) -> list[list[str]]:
  """Texts, a column for each of ``tables``, which are ``summarise``'s, by the key of each.

  Under each method but the reference stands what it differs from it by, and the p-values of that.
  """
  text = lambda mean, error, sign="": "-" if mean is None else score.text(mean, error, sign)
  found = []
  for i, method in enumerate(row["method"] for row in next(iter(tables.values()))):
    own = {key: table[i] for key, table in tables.items()}
    texts = [text(row[key], row[f"{key}_error"]) for key, row in own.items()]
    found.append([style.label_of(method), *texts])
    if method != reference:
      texts = [text(row["difference"], row["difference_error"], "+") for row in own.values()]
      found.append([f"  minus {reference}", *texts])
      if any(row.get("p_holm") is not None for row in own.values()):
        found.append(["  p, Holm", *map(significance.cell, own.values())])
  return found


def caption(tables: Mapping[str, list[dict[str, Any]]]) -> str:
  """What the p-values of ``rows`` are; nothing where there are none."""
  said = (significance.caption(table, "methods in each column") for table in tables.values())
  return next(filter(None, said), "")


def narrow(rows: list[list[str]]) -> list[list[str]]:
  """Errors below their means, for terminals."""
  return [[cell.replace(" ± ", "\n± ") for cell in row] for row in rows]
