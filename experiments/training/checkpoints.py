"""Checkpoints by Orbax: arrays, and what the host knows of the run."""

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from experiments.config import Refusal, reason

OTHER_STRUCTURE = "tree structures do not match"  # in Orbax's error, of a checkpoint that is whole


@contextlib.contextmanager
def quiet() -> Iterator[None]:
  """Threads of Orbax print tracebacks of errors that its caller is given as well."""
  logging.disable()
  try:
    with contextlib.redirect_stderr(io.StringIO()):
      yield
  finally:
    logging.disable(logging.NOTSET)


class Checkpoints:
  """The last two; one that was not written to its end does not count.

  ``state`` is a pytree of arrays: params, statistics, optimizer state, counts. ``host`` is what
  JSON holds: the data's position, the end of the metrics, what was evaluated. Random keys are
  folded from the config's seed and the counts, and need no place of their own.
  """

  def __init__(self, directory: Path):
    self.directory = directory.absolute()
    self.manager = ocp.CheckpointManager(
      self.directory,
      options=ocp.CheckpointManagerOptions(
        max_to_keep=2,
        cleanup_tmp_directories=True,
        # A step that donates its arrays may follow at once.
        enable_async_checkpointing=False,
      ),
      item_names=("state", "host"),
    )

  def save(self, step: int, state: Any, host: dict[str, Any]) -> None:
    if step == self.manager.latest_step():
      return
    items = ocp.args.Composite(state=ocp.args.StandardSave(state), host=ocp.args.JsonSave(host))
    try:
      with quiet():
        self.manager.save(step, args=items, force=True)
    except Exception as error:
      raise Refusal(f"no checkpoint of step {step} in {self.directory}: {reason(error)}") from error

  def restore(self, like: Any, host: Callable[..., Any] = dict) -> tuple[Any, Any] | None:
    """The last (state, host), with the shardings of ``like``; ``None`` where there is none."""
    step = self.manager.latest_step()
    if step is None:
      return None
    items = ocp.args.Composite(state=ocp.args.StandardRestore(like), host=ocp.args.JsonRestore())
    try:
      with quiet():
        found = self.manager.restore(step, args=items)
      return found.state, host(**found.host)
    except Exception as error:
      if OTHER_STRUCTURE in str(error):
        raise Refusal(
          f"{self.directory / str(step)} was saved by another version of flatopt or experiments,"
          f" whose state holds other parts: use that version, which config.json names, or delete"
          f" {self.directory.parent} to train again"
        ) from error
      others = [other for other in self.manager.all_steps() if other != step]
      goes_on = f"from step {max(others)}" if others else "from the start"
      raise Refusal(
        f"{self.directory / str(step)} is damaged: delete it to go on {goes_on} ({reason(error)})"
      ) from error

  def preempted(self, step: int, noted: list[int]) -> bool:
    """Whether to save and leave at ``step``, which several processes have to agree on."""
    return bool(noted) if jax.process_count() == 1 else self.manager.reached_preemption(step)

  def close(self) -> None:
    self.manager.close()
