"""Trains one config."""

import dataclasses
from pathlib import Path
from typing import Annotated

from rich.console import Console

from experiments.config import Config, Inline, Refusal
from experiments.training import loop
from experiments.training.display import sentence


@dataclasses.dataclass(frozen=True)
class Train:
  """Trains a config, from its last checkpoint where there is one."""

  config: Annotated[Config, Inline]
  run_dir: Path  # directory of the run's files
  method: str | None = None  # in place of the config's, such as rst:probability=0.25,rho=0.1
  base: str | None = None  # base optimizer in place of the config's, such as adamw:b2=0.99
  model: str | None = None  # model in place of the config's; `list models` shows all
  data: str | None = None  # data set in place of the config's; `list data` shows all
  distributed: bool = False  # whether this is one of several processes that share the run
  coordinator_address: str | None = None  # the first process's, where JAX knows no cluster
  num_processes: int | None = None  # number of processes, where JAX knows no cluster
  process_id: int | None = None  # index of this process, where JAX knows no cluster

  def run(self, console: Console) -> None:
    if self.distributed:
      import jax

      try:
        jax.distributed.initialize(self.coordinator_address, self.num_processes, self.process_id)
      except (ValueError, RuntimeError) as error:
        raise Refusal(f"--distributed: {error}") from error

    console.print(sentence(loop.train(self.config, self.run_dir, console)))
