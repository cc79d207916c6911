"""What a table's p-values are, in words, and their texts."""

from collections.abc import Sequence
from typing import Any

from experiments.measures import statistics

COLUMN = "p,\nHolm"
TEST_SET = "test set,\n±"


def cell(row: dict[str, Any]) -> str:
  """The corrected p-value; a hyphen for the reference, and for results of older versions."""
  p = row.get("p_holm")
  return "-" if p is None else "<.001" if p < 0.001 else f"{p:.3f}"


def has_test_set(rows: Sequence[dict[str, Any]]) -> bool:
  """Whether any row has the error over test examples, which older runs lack."""
  return any(row.get("difference_test_error") is not None for row in rows)


def caption(rows: Sequence[dict[str, Any]], which: str = "rows") -> str:
  """A sentence or two, to follow others; nothing where nothing was tested."""
  tested = [row for row in rows if row.get("p_holm") is not None]
  if not tested:
    return ""
  n, comparisons = max(row["n"] for row in tested), len(tested)
  exact = "exact " if n <= statistics.MOST_EXACT else ""
  said = (
    f" p: {exact}two-sided sign-flip test of these paired differences, corrected for the number of"
    f" {which} compared, {comparisons}, by Holm's method."
  )
  least = statistics.least_p(n, comparisons)
  if least > statistics.LEVEL:
    said += (
      f" With {n} seeds and {comparisons} comparison{'s' if comparisons > 1 else ''} it cannot be"
      f" below {least:.2g}, so that no difference here can be called significant."
    )
  return said
