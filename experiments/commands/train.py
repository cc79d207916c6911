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
  run_dir: Path  # holds all of the run
  method: str | None = None  # instead of the config's own, as rst:probability=0.25,rho=0.1; so
  base: str | None = None  # the base optimizer,
  model: str | None = None  # the model,
  data: str | None = None  # and the data set, by the names that `list` shows
  distributed: bool = False  # this is one of several processes, which clusters tell JAX of;
  coordinator_address: str | None = None  # elsewhere, the first one's HOST:PORT,
  num_processes: int | None = None  # how many there are,
  process_id: int | None = None  # and which this is

  def run(self, console: Console) -> None:
    if self.distributed:
      import jax

      try:
        jax.distributed.initialize(self.coordinator_address, self.num_processes, self.process_id)
      except (ValueError, RuntimeError) as error:
        raise Refusal(f"--distributed: {error}") from error

    console.print(sentence(loop.train(self.config, self.run_dir, console)))
