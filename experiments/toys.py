"""The IRE paper's toy, L = (1 + u^2) v^2 / 2, as figures for docs/toys.md.

python -m experiments.toys docs/assets
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import flatopt
from experiments.plots.style import canvas, save_all, title

KAPPAS = (0.0, 90.0, 900.0, 9000.0)
RHOS = np.geomspace(3e-4, 1e-2, 8)


def path_of_u(optimizer: optax.GradientTransformationExtraArgs, v, num_steps: int) -> jax.Array:
  """``u`` before each step and after the last, from u = 1."""
  grad_fn = jax.grad(lambda w: 0.5 * (1 + w[0] ** 2) * w[1] ** 2)

  def step(carry, _):
    w, state = carry
    updates, state = optimizer.update(grad_fn(w), state, w, grad_fn=grad_fn)
    return (optax.apply_updates(w, updates), state), w[0]

  w = jnp.stack([jnp.ones_like(v), v])
  (w, _), u = jax.lax.scan(step, (w, optimizer.init(w)), length=num_steps)
  return jnp.append(u, w[0])


def enhanced(kappa) -> optax.GradientTransformationExtraArgs:
  """IRE that calls the flatter of the two coordinates flat, anew at every step."""
  return flatopt.ire(kappa=kappa, flat_fraction=0.5, update_interval=1)


def descents() -> np.ndarray:
  """Paths of gradient descent with step 1, a row for each of ``KAPPAS``."""
  descend = lambda kappa: path_of_u(
    optax.chain(optax.sgd(1.0), enhanced(kappa)), jnp.array(0.01), 1000
  )
  return np.asarray(jax.jit(jax.vmap(descend))(jnp.array(KAPPAS)))


def speeds(kappa_of_rho) -> np.ndarray:
  """How far u falls a step under SAM and IRE, for each of ``RHOS``."""

  def speed(rho):
    u = path_of_u(
      optax.chain(flatopt.sam(rho), optax.sgd(0.1), enhanced(kappa_of_rho(rho))), rho, 200
    )
    return (u[100] - u[200]) / 100

  return np.asarray(jax.jit(jax.vmap(speed))(jnp.array(RHOS)))


def draw_descents(paths: np.ndarray, theme):
  figure, axes = canvas(theme, 8, 3.8, top=0.8)
  ax = axes[0, 0]
  for i, (kappa, path) in enumerate(zip(KAPPAS, paths, strict=True)):
    shade = theme["base"] if kappa == 0 else theme["after the base"]
    ax.plot(path, color=shade, linewidth=1.2 + 0.5 * i)
    ax.annotate(
      f"kappa {kappa:,.0f}: {path[-1]:.3f}",
      (len(path), path[-1]),
      (6, 7 if i == 0 else -3),
      textcoords="offset points",
      size=9.5,
      color=shade,
    )
  ax.set_xlim(0, 1.28 * len(path))
  ax.set_xticks(range(0, len(path) + 1, 200))
  ax.set_xlabel("step", size=9.5, color=theme["soft"])
  ax.set_ylabel("u: smaller is flatter", size=9.5, color=theme["soft"])
  subtitle = "Gradient descent with step 1 from (1, .01). A larger step diverges; IRE does not."
  title(figure, theme, "IRE walks along the minima", subtitle)
  return figure


def draw_speeds(sam: np.ndarray, ire: np.ndarray, theme):
  figure, axes = canvas(theme, 8, 3.8, top=0.8)
  ax = axes[0, 0]
  for name, values, place in (
    ("SAM", sam, "before the base"),
    ("SAM + IRE, kappa = 1 / rho", ire, "after the base"),
  ):
    slope = np.polyfit(np.log(RHOS), np.log(values), 1)[0]
    ax.loglog(RHOS, values, "o-", color=theme[place], linewidth=2)
    ax.annotate(
      f"{name}\nslope {slope:.2f}",
      (RHOS[-1], values[-1]),
      (8, 0),
      textcoords="offset points",
      va="center",
      size=9.5,
      color=theme[place],
    )
  ax.minorticks_off()  # a logarithmic axis makes them anew, in black
  ax.xaxis.set_major_formatter("{x:g}")
  ax.yaxis.set_major_formatter("{x:g}")
  ax.set_xlim(right=4 * RHOS[-1])
  ax.set_xlabel("rho", size=9.5, color=theme["soft"])
  ax.set_ylabel("fall of u a step", size=9.5, color=theme["soft"])
  title(figure, theme, "Speed along the minima", "Step .1, on the minima v = 0 from u = 1.")
  return figure


def main() -> None:
  with jax.enable_x64(True):
    paths = descents()
    sam, ire = speeds(lambda rho: 0 * rho), speeds(lambda rho: 1 / rho)
  figures = {
    "toy-descent": lambda theme: draw_descents(paths, theme),
    "toy-speed": lambda theme: draw_speeds(sam, ire, theme),
  }
  save_all(figures, Path(sys.argv[1]))


if __name__ == "__main__":
  main()
