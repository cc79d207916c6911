"""The lists of configs, methods, bases, models and data sets."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import tyro
from rich.console import Console

from experiments import presets
from experiments.config import Config
from experiments.data.registry import DATA_SETS
from experiments.methods import BASES, METHODS, method_name
from experiments.models.registry import MODELS


@dataclasses.dataclass(frozen=True)
class List:
  """Lists what to choose from, with costs, settings and what is ready to use."""

  what: tyro.conf.Positional[Literal["configs", "methods", "bases", "models", "data"]] = "configs"

  def run(self, console: Console) -> None:
    say = functools.partial(console.print, highlight=False)
    LISTS[self.what](say)


def list_configs(say: Callable) -> None:
  by_data: dict[str, list[Config]] = {}
  for config in presets.CONFIGS.values():
    by_data.setdefault(config.data.set.about, []).append(config)
  header = "{:<29}{:<18}{:<10}{:>9}{:>8}{:>6}".format  # 80 columns
  say(header("config", "model", "method", "gradients", "steps", "batch"), style="dim")
  for about, configs in by_data.items():
    say(f"\n{about}", style="bold")
    if missing := configs[0].data.set.missing():
      say(f"  needs {missing}", style="yellow", soft_wrap=True)
    for config in configs:
      kind, method = type(config.model).__name__, method_name(config.opt)
      cost = (f"{x:,}" for x in (config.gradients(), config.steps(), config.data.batch_size))
      say(header(config.name, kind, method, *cost))


def list_methods(say: Callable) -> None:
  header = "{:<15}{:>9}  {}".format
  say(header("method", "gradients", "settings"), style="dim")
  for place in dict.fromkeys(entry.place for entry in METHODS.values()):
    say(f"\n{place}", style="bold")
    for name, entry in METHODS.items():
      if entry.place == place:
        say(header(name, f"{entry.config().gradients:g}", settings(entry.config())))
  aliases = ", ".join(f"{old} is {name}" for old, name in METHODS.aliases.items())
  say("\nGradients: of a step. The base alone goes by its own name.")
  say(f"Older names: {aliases}.")


def list_bases(say: Callable) -> None:
  header = "{:<21}{:>9}{:>8}  {}".format
  say(header("base", "rate", "decay", "settings"), style="dim")
  for name, entry in BASES.items():
    own = f"{entry.learning_rate:g}", f"{entry.weight_decay:g}"
    say(header(name, *own, settings(entry.config())))


def list_models(say: Callable) -> None:
  for name, model in MODELS.items():
    say(f"{name:<13}{type(model).__name__}: {settings(model)}")


def list_data(say: Callable) -> None:
  for name, chosen in DATA_SETS.items():
    missing = chosen.missing()
    say(f"{name:<18}{'ready' if missing is None else 'missing':<9}{chosen.about}")
    if missing:
      say(f"{'':<18}needs {missing}", style="yellow", soft_wrap=True)


def settings(part: Any) -> str:
  return ", ".join(f"{f.name}={getattr(part, f.name)}" for f in dataclasses.fields(part)) or "-"


LISTS = {
  "configs": list_configs,
  "methods": list_methods,
  "bases": list_bases,
  "models": list_models,
  "data": list_data,
}
