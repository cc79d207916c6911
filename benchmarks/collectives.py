"""Finds the collectives of a compiled program, which are what it sends between devices."""

import collections
import math
import re
from typing import NamedTuple

KINDS = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
# An asynchronous collective has a start and a done part. The done part has the shape of the result.
_COLLECTIVE = re.compile(rf"= (.*?) ({'|'.join(KINDS)})(?:-done)?\(")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]")
_CALLED = re.compile(
  r"(?:body|condition|to_apply|calls|branch_computations|true_computation|false_computation)="
  r"(\{[^}]*\}|%?[\w.\-]+)"
)
_TRIPS = re.compile(r'known_trip_count\D*"?n"?\D*(\d+)')


class Collective(NamedTuple):
  """One collective of a program.

  arrays: (entries, bytes) of each array in its result on one device.
  times: how often it runs in one step.
  """

  kind: str
  arrays: tuple[tuple[int, int], ...]
  times: int


def collectives(text: str) -> list[Collective]:
  """Returns the collectives in the text of a compiled program (``compiled.as_text()``).

  A collective in a loop counts once per iteration, or only once if the compiler does not know the
  number of iterations. In a conditional, all branches count.
  """
  computations, entry = _computations(text)
  times: dict[str, int] = collections.Counter()
  _count(entry, 1, computations, times)
  return [
    _parse(match, times[name])
    for name, lines in computations.items()
    for line in lines
    if times[name] and (match := _COLLECTIVE.search(line))
  ]


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
  """Returns the lines of each computation by its name, and the name of the entry computation."""
  computations: dict[str, list[str]] = {}
  entry = current = ""
  for line in text.splitlines():
    if line and not line[0].isspace() and (match := _COMPUTATION.match(line)):
      current = match[2]
      computations[current] = []
      entry = current if match[1] else entry
    elif current:
      computations[current].append(line)
  return computations, entry


def _count(name: str, factor: int, computations, times) -> None:
  """Adds to ``times`` how often each computation runs if ``name`` runs ``factor`` times."""
  times[name] += factor
  for line in computations[name]:
    trips = int(match[1]) if " while(" in line and (match := _TRIPS.search(line)) else 1
    for called in _CALLED.findall(line):
      for callee in re.findall(r"[\w.\-]+", called):
        if callee in computations:
          _count(callee, factor * trips, computations, times)


def _parse(match: re.Match[str], times: int) -> Collective:
  """Makes a collective from its line in the program."""
  sizes = [
    (math.prod(int(n) for n in dims.split(",") if n), _itemsize(dtype))
    for dtype, dims in _ARRAY.findall(match[1])
  ]
  return Collective(match[2], tuple((n, n * itemsize) for n, itemsize in sizes), times)


def _itemsize(dtype: str) -> int:
  """Returns the bytes of an XLA dtype such as ``f32``, ``u8``, ``pred`` or ``f8e4m3fn``."""
  if dtype == "pred":
    return 1
  digits = re.search(r"\d+", dtype)
  return max(1, int(digits[0]) // 8) if digits else 1


def bytes_by_kind(exchanged: list[Collective]) -> dict[str, int]:
  """Returns the bytes of the results of one step on one device, without scalars, by kind.

  Kinds with 0 bytes are left out.
  """
  total: dict[str, int] = collections.Counter()
  for collective in exchanged:
    num_bytes = sum(num_bytes for entries, num_bytes in collective.arrays if entries > 1)
    total[collective.kind] += num_bytes * collective.times
  return {kind: num_bytes for kind, num_bytes in total.items() if num_bytes}


def num_scalars(exchanged: list[Collective]) -> int:
  """Returns the number of scalars in the results of one step on one device."""
  return sum(c.times * sum(entries == 1 for entries, _ in c.arrays) for c in exchanged)
