"""IRE before the base: d = grad_fn(w + rho g/||g||) - g, output g + d + kappa * flat * d."""

import jax.numpy as jnp
import numpy as np
import optax

import flatopt
from tests.oracle.test_ire import (
  DIAGONALS,
  HOLES,
  PARAMS_ARE_CURVATURE,
  UPDATES,
  masks_numpy,
)
from tests.oracle.trajectory import (
  PULLS,
  SKIPPING,
  assert_close,
  drive,
  flat,
  follow,
  once,
  table,
  tree,
  unit,
  with_rows,
)

GRADS = UPDATES
RADII, KAPPAS = np.linspace(0.1, 0.5, 12), np.linspace(3, 0, 12)


def cube(params):
  """A gradient function, of sum w^4 / 4."""
  return tree(flat(params) ** 3)


def drift_numpy(radii, kappas, masks, params=DIAGONALS):
  rows = []
  for g, w, rho, kappa, mask in zip(GRADS, params, radii, kappas, masks, strict=True):
    d = (w + rho * unit(g)) ** 3 - g
    rows.append(g + d + kappa * mask * d)
  return rows


def enhanced(**settings):
  settings |= {"flat_fraction": 0.5, "curvature": PARAMS_ARE_CURVATURE}
  return flatopt.ire(1.5, rho=0.3, **settings)


def test_equation(x64):
  method = enhanced(update_interval=3, start_step=2)
  rows, _ = drive(method, GRADS, DIAGONALS, grad_fn=cube)
  masks = masks_numpy(DIAGONALS, 3, interval=3, start=2)
  assert_close(rows, drift_numpy([0.3] * 12, [1.5] * 12, masks))


def test_averaged_curvature(x64):
  method = enhanced(update_interval=3, start_step=2, decay=0.7)
  rows, _ = drive(method, GRADS, DIAGONALS, grad_fn=cube)
  masks = masks_numpy(DIAGONALS, 3, interval=3, start=2, decay=0.7)
  assert_close(rows, drift_numpy([0.3] * 12, [1.5] * 12, masks))


def test_schedules_read_the_count(x64):
  ranks = [1, 0, 6, 3, 2, 5, 4, 0, 1, 2, 3, 6]
  method = flatopt.ire(
    rho=table(RADII),
    kappa=table(KAPPAS),
    flat_fraction=table(np.minimum((np.array(ranks) + 0.5) / 6, 1)),
    curvature=PARAMS_ARE_CURVATURE,
    update_interval=1,
  )
  rows, _ = drive(method, GRADS, DIAGONALS, grad_fn=cube)
  masks = [masks_numpy([d], k)[0] for d, k in zip(DIAGONALS, ranks, strict=True)]
  assert_close(rows, drift_numpy(RADII, KAPPAS, masks))


def test_default_estimator_is_hutchinson():
  grad_fn = lambda w: jnp.array([5.0, -1.0, 3.0, 2.0]) * w
  _, state = once(
    flatopt.ire(rho=0.05, flat_fraction=0.5), jnp.ones(4), jnp.ones(4), grad_fn=grad_fn
  )
  assert state.mask.flat.tolist() == [False, True, False, True]


def test_non_finite_curvature_never_enters_the_average(x64):
  method = enhanced(update_interval=1, decay=0.7)
  _, state = drive(method, GRADS, HOLES, grad_fn=cube)
  h = np.zeros(6)
  for t, diagonal in enumerate(HOLES):
    finite = np.isfinite(diagonal)
    h[finite] = 0.7 * h[finite] + 0.3 * np.abs(diagonal[finite])
    np.testing.assert_allclose(flat({k: v[t] for k, v in state.mask.curvature.items()}), h)


def test_apply_if_finite_behind_it_skips(x64):
  """A bad batch moves neither the params nor the average that ranks them."""
  method = flatopt.ire(rho=0.3, kappa=1.5, flat_fraction=0.5, update_interval=2, decay=0.5)
  rows, (state, _) = follow(optax.chain(method, SKIPPING), 6, with_rows(PULLS, [2, 4], np.nan))
  assert np.isfinite(rows).all()
  np.testing.assert_array_equal(rows[2], rows[1])
  np.testing.assert_array_equal(rows[4], rows[3])
  np.testing.assert_array_equal(state.mask.refreshes, [1, 1, 2, 2, 3, 3])
  assert all(np.isfinite(h).all() for h in state.mask.curvature.values())


def test_bfloat16_keeps_its_dtype():
  w = jnp.ones(4, jnp.bfloat16)
  output, _ = once(
    flatopt.ire(rho=0.5, kappa=0.3, flat_fraction=1.0), w, w, grad_fn=lambda w: w * w
  )
  assert output.dtype == jnp.bfloat16
  np.testing.assert_allclose(output.astype(jnp.float32), 1.5625 + 0.3 * 0.5625, rtol=2**-8)
