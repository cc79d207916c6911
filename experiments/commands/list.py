"""What there is to choose from."""

import dataclasses
import functools

from rich.console import Console

from experiments import presets
from experiments.config import Config
from experiments.methods import method_name


@dataclasses.dataclass(frozen=True)
class List:
  """Every config below its data, with what a run costs."""

  def run(self, console: Console) -> None:
    by_data: dict[str, list[Config]] = {}
    for config in presets.CONFIGS.values():
      by_data.setdefault(config.data.set.about, []).append(config)
    header = "{:<29}{:<18}{:<10}{:>9}{:>8}{:>6}".format  # 80 columns
    say = functools.partial(console.print, highlight=False, soft_wrap=True)
    say(header("config", "model", "method", "gradients", "steps", "batch"), style="dim")
    for about, found in by_data.items():
      say(f"\n{about}", style="bold")
      for config in found:
        kind, method = type(config.model).__name__, method_name(config.opt)
        cost = (f"{x:,}" for x in (config.gradients(), config.steps(), config.data.batch_size))
        say(header(config.name, kind, method, *cost))
