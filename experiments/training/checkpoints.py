"""Checkpoints by Orbax: the run's arrays, and the values that the loop keeps on the host."""

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from experiments.config import Refusal, files, reason

DIGEST = "digest.json"
OTHER_STRUCTURE = "tree structures do not match"  # in Orbax's error, of a checkpoint that is whole


@contextlib.contextmanager
def quiet() -> Iterator[None]:
  """Hides the tracebacks that Orbax's threads print of errors that it also raises."""
  logging.disable()
  try:
    with contextlib.redirect_stderr(io.StringIO()):
      yield
  finally:
    logging.disable(logging.NOTSET)


def files_below(directory: Path) -> list[Path]:
  return sorted(path for path in directory.rglob("*") if path.is_file() and path.name != DIGEST)


class Checkpoints:
  """The last two checkpoints; one that was not written completely is ignored.

  Each holds a digest of its other files, written after them; a damaged one is refused.

  ``state`` is a pytree of arrays: params, statistics, optimizer state, counts. ``host`` is saved as
  JSON: the position in the data, the size of the metrics file, how many evaluations were made.
  Random keys are not saved, because they follow from the config's seed and the counts.
  """

  def __init__(self, directory: Path, *, read_only: bool = False):
    self.directory = directory.absolute()
    self.check_last_digest()
    # Quiet about the options that Orbax turns off to read only.
    with files.reading(self.directory, "delete what is damaged in it"), quiet():
      options = ocp.CheckpointManagerOptions(
        max_to_keep=2,
        read_only=read_only,
        cleanup_tmp_directories=not read_only,
        # The next step donates these arrays, so that they have to be written before it.
        enable_async_checkpointing=False,
      )
      self.manager = ocp.CheckpointManager(
        self.directory, options=options, item_names=("state", "host")
      )

  def check_last_digest(self) -> None:
    """Refuses the last checkpoint where it is not as it was saved; older versions have no digest."""
    steps = [int(path.parent.name) for path in self.directory.glob(f"[0-9]*/{DIGEST}")]
    if not steps:
      return
    where = self.directory / str(max(steps))
    try:
      if files.read_json(where / DIGEST)["sha256"] != files.digest_of(*files_below(where)):
        raise ValueError("its files are not those that were saved")
    except Exception as error:
      raise self.damaged(max(steps), steps, error) from error

  def damaged(self, step: int, steps: list[int], error: Exception) -> Refusal:
    others = [other for other in steps if other != step]
    on = f"from step {max(others)}" if others else "from the start"
    where = self.directory / str(step)
    return Refusal(f"{where} is damaged: delete it to continue {on} ({reason(error)})")

  def save(self, step: int, state: Any, host: dict[str, Any]) -> None:
    if step == self.manager.latest_step():
      return
    items = ocp.args.Composite(state=ocp.args.StandardSave(state), host=ocp.args.JsonSave(host))
    try:
      with quiet():
        self.manager.save(step, args=items, force=True)
      if jax.process_index() == 0:
        where = self.directory / str(step)
        files.write_json(where / DIGEST, {"sha256": files.digest_of(*files_below(where))})
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
        restored = self.manager.restore(step, args=items)
      return restored.state, host(**restored.host)
    except Exception as error:
      if OTHER_STRUCTURE in str(error):
        raise Refusal(
          f"{self.directory / str(step)} was saved by another version of flatopt or experiments,"
          f" whose state holds other parts: use that version, which config.json names, or delete"
          f" {self.directory.parent} to train again"
        ) from error
      raise self.damaged(step, list(self.manager.all_steps()), error) from error

  def preempted(self, step: int, signals: list[int]) -> bool:
    """Whether to save and stop at ``step``, on which several processes have to agree."""
    return bool(signals) if jax.process_count() == 1 else self.manager.reached_preemption(step)

  def close(self) -> None:
    self.manager.close()
