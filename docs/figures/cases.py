"""The figure of each method: the run that it shows, the view, and its title."""

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
    "SAM takes its gradient uphill",
    "Grey: SGD, which ends in the narrow minimum. Rings: where SAM takes its second gradient.",
  ),
  "rst": Case(
    chained(flatopt.rst(flatopt.sam(RADIUS), probability=0.5, key=1)),
    "RST takes its gradient uphill on some steps",
    "Rings: steps with X = 1, here half of all. The other steps cost as much as steps of SGD.",
  ),
  "g_rst": Case(
    chained(flatopt.g_rst(flatopt.sam(RADIUS), probability=0.25, key=1)),
    "G-RST gives rare uphill gradients more weight",
    "Rings: steps with X = 1, here a quarter of all, where SAM's change has four times its weight.",
  ),
  "gsam": Case(
    chained(flatopt.gsam(RADIUS, alpha=0.3)),
    "GSAM changes the direction of SAM's gradient",
    "Grey: SGD. Rings: where GSAM takes its second gradient, as SAM does.",
  ),
  "looksam": Case(
    chained(flatopt.looksam(RADIUS, alpha=0.7, update_interval=5)),
    "LookSAM takes its gradient uphill on every fifth step",
    "On the steps in between, it adds the direction that it keeps to the plain gradient.",
  ),
  "friendly_sam": Case(
    chained(flatopt.friendly_sam(RADIUS, sigma=1.0, decay=0.8)),
    "Friendly-SAM perturbs along the noise",
    "Noisy gradients, the same for both paths. Rings: where it takes its second gradient.",
    noise=0.08,
    seed=3,
  ),
  "ae_sam": Case(
    chained(flatopt.ae_sam(flatopt.sam(RADIUS), num_steps=45)),
    "AE-SAM takes its gradient uphill if it is large",
    "Rings: the sharpness-aware steps, on which the gradient is large compared with before.",
  ),
  "weight_average": Case(
    flatopt.weight_average(optax.sgd(0.35), start_step=10),
    "The average is close to the minimum",
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
    "Momentum-SAM trains on perturbed params",
    "Line: the params that are trained. Squares: the unperturbed params, at the distance rho.",
  ),
  "ire": Case(
    optax.chain(optax.sgd(0.6), flatopt.ire(kappa=4.0, flat_fraction=0.5, update_interval=1)),
    "IRE takes longer steps along the valley",
    "$L = (1 + u^2) v^2 / 2$ has its minima at v = 0; they are flatter for smaller u. Grey: SGD.",
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
    "The slow weights of Lookahead average out noise",
    "Noisy gradients. Line: fast weights. Squares: slow weights, which move every five steps.",
    loss_fn=bowl,
    base=None,
    start=(-2.0, 1.2),
    num_steps=40,
    noise=0.3,
    view=((-2.4, 1.2), (-0.9, 1.5)),
  ),
  "sala": Case(
    flatopt.sala(optax.sgd(0.35), sync_period=5, slow_step_size=0.5, rho=RADIUS),
    "SALA takes a gradient uphill once in a cycle",
    "Noisy gradients. Squares: slow weights. Rings: gradients in stage 2, one in each cycle.",
    loss_fn=bowl,
    base=None,
    start=(-2.0, 1.2),
    num_steps=50,
    noise=0.2,
    view=((-2.4, 1.2), (-0.9, 1.5)),
  ),
  "lookbehind": Case(
    flatopt.lookbehind(SGD, ascent_steps=4, rho=0.1, interpolation=0.5),
    "Lookbehind takes several ascent steps per update",
    "Chains of rings: the four ascent steps of an update. Grey: SGD with as many updates.",
    num_steps=16,
  ),
}
