"""The sharpness of the training loss around a saved run's params, which the report draws."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from experiments.config import Refusal, files
from experiments.measures.options import check_at_least, check_positive, check_seed
from experiments.training import batches, saved_runs
from experiments.training.saved_runs import Trained
from experiments.training.step import loops_are_slow
from flatopt import sharpness

LOSS = 1 / 3  # of a gradient, which is a pass forwards and about two backwards
PRODUCT = 2  # gradients a Hessian-vector product
NUMBERS, ARRAYS = "sharpness.json", "sharpness.npz"


@dataclasses.dataclass(frozen=True)
class SharpnessOptions:
  examples: int = 256  # number of training examples, the first of the set
  rho: float = 0.05  # radius of the worst case, in units of the params
  adaptive_rho: float = 0.5  # radius of the worst case that scales with the weights
  ascent_steps: int = 1  # to the worst case: 1 is SAM's own perturbation
  sigma: float = 0.02  # of the weight noise of the average case
  num_samples: int = 16  # random draws of the average case and of the trace
  num_eigenvalues: int = 5
  num_matvecs: int = 40  # Lanczos steps of the eigenvalues, and of a probe of the density
  probes: int = 4  # random probes of the density
  span: float = 1.0  # of the landscape, in lengths of the filters
  resolution: int = 21  # points along each of its two directions
  seed: int = 0  # of every random draw

  def __post_init__(self):
    counts = "examples", "ascent_steps", "num_samples", "num_eigenvalues", "probes"
    check_at_least(self, dict.fromkeys(counts, 1) | {"num_matvecs": self.num_eigenvalues})
    check_at_least(self, {"resolution": 3})
    check_positive("span", self.span)
    check_seed(self.seed)
    for name in ("rho", "adaptive_rho", "sigma"):
      check_positive(name, getattr(self, name))


class Measure(NamedTuple):
  """``of(loss, grad_fn, params)``, and what it costs in gradients of that loss."""

  gradients: float
  of: Callable[[Callable, Callable, Any], Any]


def measure(directory: Path, options: SharpnessOptions, console: Console) -> None:
  """Writes sharpness.npz, and sharpness.json last, which marks the measurement as complete."""
  run = saved_runs.restore(directory)
  source = batches.centred(run.config, batches.training_source(run.config))
  pairs = saved_runs.weighted_batches(run, source, options.examples)
  examples = int(sum(weights_B.sum() for _, weights_B in pairs))
  console.print(f"step {run.step}, {examples} training examples in {len(pairs)} batches")
  evaluate = evaluator(run, pairs, loops_are_slow(run.params))
  values, gradients = {}, {}
  for name, one in measures(options).items():
    console.print(f"{name.replace('_', ' ')}: {one.gradients:.1f} gradients")
    values[name], gradients[name] = jax.device_get(evaluate(one)), one.gradients
    if name in ("loss", "top_eigenvalues") and not np.all(np.isfinite(values[name])):
      raise Refusal(f"{directory} cannot be measured: at step {run.step} its {name} is not finite")
  grid, density = values.pop("spectral_density")
  lines = {name: values.pop(name) for name in ("line", "plane")}
  with files.written_whole(directory / ARRAYS) as draft, open(draft, "wb") as file:
    np.savez_compressed(file, grid=grid, density=density, **lines)
  written = {
    "step": run.step,
    "examples": examples,
    "options": dataclasses.asdict(options),
    "values": {name: _to_json(value) for name, value in values.items()},
    "gradients": gradients,
    "versions": files.versions(),
  }
  files.write_json(directory / NUMBERS, written)


def measures(o: SharpnessOptions) -> dict[str, Measure]:
  """All measures, the loss first: if it is not finite, the others are not measured."""
  # Other generators take XLA:CPU longer to compile than all the rest of these programs.
  keys = jax.random.split(jax.random.key(o.seed, impl="rbg"), 5)
  fine = 2 * o.resolution - 1  # points of the line, which is far cheaper than the plane

  def ascent(**ball):
    one = lambda loss, _, w: sharpness.ascent(loss, w, num_steps=o.ascent_steps, **ball)
    return Measure(o.ascent_steps + LOSS, one)

  def average(loss, _, w):
    return sharpness.average(loss, w, sigma=o.sigma, num_samples=o.num_samples, key=keys[0])

  def top_eigenvalues(_, grad_fn, w):
    options = {"num": o.num_eigenvalues, "num_matvecs": o.num_matvecs}
    return sharpness.top_eigenvalues(grad_fn, w, key=keys[1], **options)[0]

  def trace(_, grad_fn, w):
    return sharpness.trace(grad_fn, w, num_samples=o.num_samples, key=keys[2])

  def density(_, grad_fn, w):
    options = {"num_samples": o.probes, "num_matvecs": o.num_matvecs}
    return sharpness.spectral_density(grad_fn, w, key=keys[3], **options)

  def landscape(axes, points):
    def losses(loss, _, w):
      directions = sharpness.filter_normalized_directions(w, num=2, key=keys[4])[:axes]
      return sharpness.loss_landscape(loss, w, directions, span=o.span, resolution=points)

    return Measure(points**axes * LOSS, losses)

  return {
    "loss": Measure(LOSS, lambda loss, _, w: loss(w)),
    "ascent": ascent(rho=o.rho),
    "adaptive_ascent": ascent(rho=o.adaptive_rho, eta=0.0),
    "average": Measure((o.num_samples + 1) * LOSS, average),
    "top_eigenvalues": Measure(PRODUCT * o.num_matvecs, top_eigenvalues),
    "trace": Measure(PRODUCT * o.num_samples, trace),
    "spectral_density": Measure(PRODUCT * o.num_matvecs * o.probes, density),
    "line": landscape(1, fine),
    "plane": landscape(2, o.resolution),
  }


def evaluator(run: Trained, pairs: list, on_host: bool) -> Callable[[Measure], Any]:
  """Evaluates a measure of the mean loss over examples: in one program, or by loops on the host.

  Both hold one batch's activations at a time.
  """
  loss_fn = mean_loss(run, pairs)
  if on_host:
    placed = [batches.place(pair, run.batch_sharding) for pair in pairs]
    loss, grad_fn = (sharpness.over_iterable(fn, placed) for fn in (loss_fn, jax.grad(loss_fn)))
    return lambda one: one.of(loss, grad_fn, run.params)

  def program(one, params, stacked):
    loss = sharpness.over_batches(loss_fn, stacked)
    return one.of(loss, jax.grad(loss), params)

  compiled, stacked = jax.jit(program, static_argnums=0), saved_runs.stacked(run, pairs)
  return lambda one: compiled(one, run.params, stacked)


def mean_loss(run: Trained, pairs: list) -> Callable[[Any, Any], jax.Array]:
  """``(params, (batch, weights_B)) -> loss``, whose mean over ``pairs`` is that over examples."""
  scale = len(pairs) / float(sum(weights_B.sum() for _, weights_B in pairs))

  def loss_fn(params, pair):
    batch, weights_B = pair
    sums = run.train_losses.evaluate(params, run.model_state, batch, weights_B)
    return sums["loss"] / sums["count"] * (jnp.sum(weights_B) * scale)

  return loss_fn


def _to_json(value: Any) -> Any:
  """An estimate as its fields, eigenvalues as a list, a number as itself."""
  if isinstance(value, sharpness.Estimate):
    return {name: files.finite(x) for name, x in value._asdict().items()}
  return [files.finite(x) for x in value] if np.ndim(value) else files.finite(value)
