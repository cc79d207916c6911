"""What each method's figure shows: the run, the view, and the words above it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import optax

import flatopt
from docs.figures.runs import bowl, two_minima, valley

SGD = optax.sgd(0.12, momentum=0.5)
RADIUS = 0.25


class Case(NamedTuple):
  optimizer: optax.GradientTransformation
  title: str
  subtitle: str
  loss_fn: Callable[[jax.Array], jax.Array] = two_minima
  base: optax.GradientTransformation | None = SGD  # drawn beside it, in grey
  start: tuple[float, float] = (-2.1, 0.8)
  num_steps: int = 45
  noise: float = 0.0
  seed: int = 0
  view: tuple[tuple[float, float], tuple[float, float]] = ((-2.4, 2.1), (-0.9, 1.1))
  axes: tuple[str, str] = ("", "")
  equal: bool = True


def chained(method: optax.GradientTransformation) -> optax.GradientTransformation:
  return optax.chain(method, SGD)


CASES = {
  "sam": Case(
    chained(flatopt.sam(RADIUS)),
    "SAM looks uphill before it steps",
    "Grey: SGD, caught by the narrow minimum. Rings: where SAM takes its gradients.",
  ),
  "rst": Case(
    chained(flatopt.rst(flatopt.sam(RADIUS), probability=0.5, key=1)),
    "RST looks uphill on some steps only",
    "Rings: the steps with X = 1, half of all here. The others cost what SGD's do.",
  ),
  "g_rst": Case(
    chained(flatopt.g_rst(flatopt.sam(RADIUS), probability=0.25, key=1)),
    "G-RST looks seldom, and acts the more on it",
    "A quarter of the steps have X = 1; on them the sharpness term counts four times.",
  ),
  "gsam": Case(
    chained(flatopt.gsam(RADIUS, alpha=0.3)),
    "GSAM steps from SAM's gradient, and turns it",
    "Rings: where it takes its second gradient, as SAM does.",
  ),
  "looksam": Case(
    chained(flatopt.looksam(RADIUS, alpha=0.7, update_interval=5)),
    "LookSAM looks uphill every fifth step",
    "In between it adds the direction that it kept to the plain gradient.",
  ),
  "friendly_sam": Case(
    chained(flatopt.friendly_sam(RADIUS, sigma=1.0, decay=0.8)),
    "Friendly-SAM looks along the noise",
    "Noisy gradients, the same for both paths. Rings: w plus a step along the batch's own part.",
    noise=0.08,
    seed=3,
  ),
  "ae_sam": Case(
    chained(flatopt.ae_sam(flatopt.sam(RADIUS), num_steps=45)),
    "AE-SAM looks uphill where gradients are large",
    "Rings: the steps that pay, those whose gradient is large among the recent ones.",
  ),
  "weight_average": Case(
    flatopt.weight_average(optax.sgd(0.35), start_step=10),
    "The average lies in the middle",
    "Noisy gradients. Line: the params that are trained. Squares: their mean from step 10 on.",
    loss_fn=bowl,
    base=None,
    start=(-2.0, 1.2),
    num_steps=60,
    noise=0.4,
    view=((-2.4, 1.2), (-0.9, 1.5)),
  ),
  "momentum_sam": Case(
    flatopt.momentum_sam(SGD, rho=RADIUS),
    "Momentum-SAM trains ahead of itself",
    "Line: the params that are trained, rho ahead. Squares: the params to evaluate at.",
  ),
  "ire": Case(
    optax.chain(optax.sgd(0.6), flatopt.ire(kappa=4.0, flat_fraction=0.5, update_interval=1)),
    "IRE takes longer steps along the valley",
    "$L = (1 + u^2) v^2 / 2$, minimal where v = 0 and flatter for smaller u. Grey: SGD.",
    loss_fn=valley,
    base=optax.sgd(0.6),
    start=(1.4, 0.45),
    num_steps=40,
    view=((0.0, 1.5), (-0.5, 0.5)),
    axes=("u", "v"),
    equal=False,
  ),
  "lookahead": Case(
    flatopt.lookahead(optax.sgd(0.35), sync_period=5, slow_step_size=0.5),
    "Lookahead follows itself at a distance",
    "Noisy gradients. Line: fast weights. Squares: slow weights, once every five steps.",
    loss_fn=bowl,
    base=None,
    start=(-2.0, 1.2),
    num_steps=40,
    noise=0.3,
    view=((-2.4, 1.2), (-0.9, 1.5)),
  ),
  "sala": Case(
    flatopt.sala(optax.sgd(0.35), sync_period=5, slow_step_size=0.5, rho=RADIUS),
    "SALA looks uphill once the fast weights stay near",
    "Noisy gradients. Squares: slow weights. Rings: gradients of stage 2, one a cycle.",
    loss_fn=bowl,
    base=None,
    start=(-2.0, 1.2),
    num_steps=50,
    noise=0.2,
    view=((-2.4, 1.2), (-0.9, 1.5)),
  ),
  "lookbehind": Case(
    flatopt.lookbehind(SGD, ascent_steps=4, rho=0.1, interpolation=0.5),
    "Lookbehind climbs several times before it goes on",
    "Chains of rings: the four ascents of each update. Grey: SGD for as many updates.",
    num_steps=16,
  ),
}
