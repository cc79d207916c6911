"""What SAM's perturbation does to a batch's loss and gradient, at moments of a run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.config import Config
from experiments.training import batches, run_directory, saved_runs
from experiments.training.dispatch import Dispatcher
from experiments.training.loop import NO_LIMIT
from experiments.training.losses import Losses, make_task
from experiments.training.step import Stop, TrainState, make_program

BATCHES = 8  # the run's first ones, at every moment
QUARTILES = 0.25, 0.5, 0.75  # over these batches


def perturbation(loss_fn: Callable, params: Any, rhos_R: jax.Array) -> dict[str, jax.Array]:
  """What moving by ``rho`` along the gradient g of ``loss_fn`` does, for each of R values of rho.

  "angle" is 1 - cosine of g and the gradient g_s there, "change" is ||g_s - g|| / ||g||, "rise" the
  rise of the loss, "relative_rise" the rise over the loss, and "first_order" rho ||g|| over the loss.
  """
  loss, grads = jax.value_and_grad(loss_fn)(params)
  norm = optax.tree.norm(grads)
  unit = optax.tree.scale(1 / norm, grads)

  def at(rho):
    moved = optax.tree.add_scale(params, rho, unit)
    moved_loss, moved_grads = jax.value_and_grad(loss_fn)(moved)
    moved_unit = optax.tree.scale(1 / optax.tree.norm(moved_grads), moved_grads)
    return {
      # 1 - cosine itself would be lost to rounding where rho is small.
      "angle": optax.tree.norm(optax.tree.sub(moved_unit, unit), squared=True) / 2,
      "change": optax.tree.norm(optax.tree.sub(moved_grads, grads)) / norm,
      "rise": moved_loss - loss,
      "relative_rise": (moved_loss - loss) / loss,
      "first_order": rho * norm / loss,
    }

  return jax.lax.map(at, rhos_R)


def measure(
  directory: Path, rhos: Sequence[float], shares: Sequence[float]
) -> list[dict[str, Any]]:
  """A row for each of ``shares`` of a finished run's steps, and one for its last checkpoint, share 1."""
  config = run_directory.read_config(directory)
  state = saved_runs.load_finished(directory)[2]
  return [*replay(config, rhos, shares), Measured(config)(1.0, state, rhos)]


def replay(config: Config, rhos: Sequence[float], shares: Sequence[float]) -> list[dict[str, Any]]:
  """Trains a run to each of ``shares`` of its steps, in their order, and measures it there."""
  program = make_program(config, batches.evaluation_source(config)[0])
  stream, measured, rows = batches.training_batches(config), Measured(config), []
  dispatcher = Dispatcher(program, stream, program.init(program.inputs))
  for share in shares:
    _train_to(dispatcher, round(share * config.steps()))
    before = jax.tree.map(jnp.copy, dispatcher.state)  # a dispatch gives its buffers away
    _train_to(dispatcher, dispatcher.step + 1)
    step = optax.tree.sub(dispatcher.state.params, before.params)
    rows.append(measured(share, before, rhos, float(optax.tree.norm(step))))
  return rows


class Measured:
  """Rows of what is measured on a run's first batches: quartiles over the batches at each rho.

  "rho_over_params" is over the norm of the params, "rho_over_step" over that of the step that the
  run takes there, where there is one.
  """

  def __init__(self, config: Config):
    stream = batches.training_batches(config).ahead(0, BATCHES)
    self.first = [jax.tree.map(lambda x, i=i: x[i], stream) for i in range(BATCHES)]
    self.measured = jax.jit(_on_batch(config))

  def __call__(
    self, share: float, state: TrainState, rhos: Sequence[float], step_norm: float = 0.0
  ) -> dict[str, Any]:
    args = state.params, state.model_state, jnp.asarray(rhos, jnp.float32)
    found = [jax.device_get(self.measured(*args, batch)) for batch in self.first]
    values = {
      name: np.quantile([one[name] for one in found], QUARTILES, axis=0).tolist()
      for name in found[0]
    }
    rhos_R = np.asarray(rhos)
    fixed = {"rho": rhos_R, "rho_over_params": rhos_R / float(optax.tree.norm(state.params))}
    if step_norm:  # it is 0 at a rate of 0, where a warm-up begins
      fixed["rho_over_step"] = rhos_R / step_norm
    values |= {name: [x.tolist()] * len(QUARTILES) for name, x in fixed.items()}
    return {"share": share, "step": int(state.step), "values": values}


def _train_to(dispatcher: Dispatcher, step: int) -> None:
  while dispatcher.step < step:
    dispatcher.send(Stop(step, NO_LIMIT))
    dispatcher.receive()


def _on_batch(config: Config) -> Callable:
  model = config.model.build(config.data.set.classes, jnp.dtype(config.training.compute_dtype))
  losses, key = Losses(model, make_task(config, train=True)), jax.random.key(config.training.seed)

  def measured(params, model_state, rhos_R, batch):
    return perturbation(lambda w: losses.loss(w, model_state, batch, key)[0], params, rhos_R)

  return measured
