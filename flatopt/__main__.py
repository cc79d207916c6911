"""``python -m flatopt`` prints versions, devices, and all methods with place and cost."""

import argparse
import inspect
import platform
import re
from collections.abc import Iterator
from types import ModuleType

import jax
import optax

import flatopt
from flatopt import gradients, implicit_regularisation, wrappers

PLACES = (
  ("before the base optimizer", gradients),
  ("before or after the base optimizer", implicit_regularisation),
  ("around the base optimizer", wrappers),
)


def cost(method: object) -> str:
  """Returns the sentence after ``Cost:`` in a docstring, as one line without markup."""
  found = re.search(r"Cost:\s+(.*?)\.(?=\s)", inspect.getdoc(method) or "", re.DOTALL)
  return re.sub(r"\s+", " ", found[1]).replace("`", "") if found else ""


def methods_of(place: ModuleType) -> list[str]:
  """Returns the names of the methods that both a subpackage and ``flatopt`` export."""
  return sorted(name for name in vars(place) if callable(getattr(flatopt, name, None)))


def lines() -> Iterator[str]:
  """Yields the lines to print."""
  yield f"flatopt {flatopt.__version__}"
  yield f"jax {jax.__version__}, optax {optax.__version__}, Python {platform.python_version()}"
  kinds = [device.device_kind for device in jax.devices()]
  for kind in sorted(set(kinds)):
    yield f"{kinds.count(kind)} x {kind} ({jax.default_backend()})"
  for place, module in PLACES:
    yield ""
    yield f"{place}:"
    for name in methods_of(module):
      yield f"  {name:14} {cost(getattr(flatopt, name))}"
  yield ""
  yield "flatopt.ire() goes after the base optimizer, and flatopt.ire(rho=...) before it."


if __name__ == "__main__":
  description = "Prints versions, devices, and all methods with place and cost."
  argparse.ArgumentParser("python -m flatopt", description=description).parse_args()
  print("\n".join(lines()))
