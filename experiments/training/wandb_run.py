"""Weights & Biases, which a run sends its metrics to if its config names a project."""

import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from experiments import config as configuration
from experiments.config import Config, Refusal, files, reason
from experiments.config.packages import missing_packages

Log = Callable[[str, int, dict[str, float]], None]  # of a split, a step and its values


def check(config: Config) -> None:
  """Refuses a project where the package is missing."""
  if config.training.wandb is not None and (missing := missing_packages(["wandb"], "wandb")):
    raise Refusal(f"training.wandb needs {missing}")


@contextlib.contextmanager
def opened(config: Config, directory: Path) -> Iterator[Log]:
  """A function that logs to the run of ``directory``; it does nothing without a project."""
  if config.training.wandb is None:
    yield lambda split, step, values: None
    return
  import wandb

  try:
    run = wandb.init(
      project=config.training.wandb,
      id=_run_id(directory),
      name=str(directory),
      dir=directory,
      config=configuration.to_dict(config),
      resume="allow",
      settings=wandb.Settings(console="off"),  # the terminal has the progress bar
    )
  except wandb.Error as error:
    raise Refusal(
      f"training.wandb: {reason(error)} (with WANDB_MODE=offline a run needs no account)"
    ) from error
  # Not wandb's own step, which cannot go back to the checkpoint that a killed run continues from.
  run.define_metric("*", step_metric="step")
  failed = True
  try:
    yield lambda split, step, values: run.log(
      {"step": step} | {f"{split}/{name}": value for name, value in values.items()}
    )
    failed = False
  finally:
    run.finish(exit_code=int(failed))


def _run_id(directory: Path) -> str:
  """Kept in the directory, so that an interrupted run continues under its own name."""
  path = directory / "wandb" / "id"
  if not path.exists():
    with files.written_whole(path) as draft:
      draft.write_text(uuid.uuid4().hex)
  return path.read_text()
