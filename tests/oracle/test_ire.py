"""IRE after the base: u * (1 + kappa * flat), flat by the rank of |curvature|."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

import flatopt
from flatopt.implicit_regularisation.flat_mask import _rank
from flatopt.kth_smallest import LOW_BITS
from tests.oracle.trajectory import assert_close, drive, flat, once, table, tree

_rng = np.random.default_rng(1)
UPDATES, DIAGONALS = _rng.normal(size=(2, 12, 6))
# An estimator whose estimate is the params: a test then hands in the curvature of each step.
PARAMS_ARE_CURVATURE = optax.stateless(lambda updates, params: params)


def masks_numpy(diagonals, k, interval=1, start=0, decay=0.0):
  """Which coordinates are flat at each step."""
  h, mask, masks = np.zeros(6), np.zeros(6, bool), []
  for t, diagonal in enumerate(diagonals):
    if t >= start and (t - start) % interval == 0:
      finite = np.isfinite(diagonal)
      new = np.where(finite, np.abs(diagonal), 0)
      if decay:
        h = np.where(finite, decay * h + (1 - decay) * new, h)
      else:
        h = np.where(finite, new, np.inf)
      mask = (h <= np.sort(h)[k - 1]) & np.isfinite(h) if k else np.zeros(6, bool)
    masks.append(mask)
  return np.array(masks)


HOLES = DIAGONALS.copy()  # not finite in places, the first estimate included
HOLES[[0, 1, 6], [1, 2, 0]], HOLES[[3, 4], [5, 1]], HOLES[7, :4] = np.nan, np.inf, -np.inf

SETTINGS = {
  "every_step": (DIAGONALS, dict()),
  "holes": (HOLES, dict()),
  "interval": (DIAGONALS, dict(interval=3)),
  "interval_start": (HOLES, dict(interval=3, start=4)),
  "decay": (DIAGONALS, dict(decay=0.7)),
  "decay_interval_start": (HOLES, dict(decay=0.3, interval=2, start=1)),
}


@pytest.mark.parametrize(("diagonals", "settings"), SETTINGS.values(), ids=SETTINGS)
def test_equation(x64, diagonals, settings):
  interval, start = settings.get("interval", 1), settings.get("start", 0)
  method = flatopt.ire(
    1.5,
    flat_fraction=0.5,
    curvature=PARAMS_ARE_CURVATURE,
    update_interval=interval,
    start_step=start,
    decay=settings.get("decay", 0.0),
  )
  rows, state = drive(method, UPDATES, diagonals)
  masks = masks_numpy(diagonals, 3, **settings)
  assert_close(rows, UPDATES * (1 + 1.5 * masks))
  np.testing.assert_array_equal(jax.vmap(flat)(state.mask.flat), masks)
  np.testing.assert_allclose(state.mask.flat_share, masks.mean(axis=1), rtol=1e-6)
  due = [t >= start and (t - start) % interval == 0 for t in range(12)]
  np.testing.assert_array_equal(state.mask.refreshes, np.cumsum(due))
  assert (state.mask.curvature == ()) == ("decay" not in settings)


def test_averaged_curvature_update(x64):
  settings = dict(update_interval=3, start_step=2, decay=0.7, curvature=PARAMS_ARE_CURVATURE)
  rows, _ = drive(flatopt.ire(1.5, flat_fraction=0.5, **settings), UPDATES, DIAGONALS)
  masks = masks_numpy(DIAGONALS, 3, interval=3, start=2, decay=0.7)
  assert_close(rows, UPDATES * (1 + 1.5 * masks))


def test_kappa_schedule_reads_the_count(x64):
  kappas = np.linspace(0, 3, 12)
  method = flatopt.ire(
    table(kappas), flat_fraction=0.5, curvature=PARAMS_ARE_CURVATURE, update_interval=1
  )
  rows, _ = drive(method, UPDATES, DIAGONALS)
  assert_close(rows, UPDATES * (1 + kappas[:, None] * masks_numpy(DIAGONALS, 3)))


MASKS = [
  # |curvature| over both leaves together, flat_fraction, flat: ties with the threshold
  # count, and what is not finite does not, even where all shall be flat.
  ([1, 1, 2, 2, -2, 3], 0.5, [1, 1, 1, 1, 1, 0]),
  ([0, 0, 0, 0, 1, 1], 0.2, [1, 1, 1, 1, 0, 0]),
  ([0, 0, 0, 0, 0, 0], 0.2, [1, 1, 1, 1, 1, 1]),
  ([0, 0, 0, 0, 0, 0], 0.16, [0, 0, 0, 0, 0, 0]),
  ([1, 2, 3, 4, 5, 6], 0, [0, 0, 0, 0, 0, 0]),
  ([1, 2, 3, 4, 5, 6], 1, [1, 1, 1, 1, 1, 1]),
  ([1, np.inf, 3, np.nan, 5, 6], 1, [1, 0, 1, 0, 1, 1]),
  ([np.nan, np.inf, -np.inf, np.nan, 1, 2], 0.5, [0, 0, 0, 0, 1, 1]),
]


@pytest.mark.parametrize(("curvature", "flat_fraction", "expected"), MASKS)
def test_which_coordinates_are_flat(curvature, flat_fraction, expected):
  method = flatopt.ire(1.0, flat_fraction=flat_fraction, curvature=PARAMS_ARE_CURVATURE)
  output, _ = once(method, tree(jnp.ones(6)), tree(jnp.asarray(curvature, jnp.float32)))
  np.testing.assert_array_equal(flat(output), 1 + np.array(expected))


def test_threshold_is_below_every_magnitude_where_none_are_flat():
  w = jnp.ones(4)
  _, state = once(flatopt.ire(1.0, flat_fraction=0.2, curvature=PARAMS_ARE_CURVATURE), w, w)
  assert state.mask.threshold < 0
  assert not state.mask.flat.any()


def test_which_coordinates_are_flat_by_a_schedule():
  curvatures, fractions, expected = (np.array(x, np.float32) for x in zip(*MASKS, strict=True))
  method = flatopt.ire(
    1.0, flat_fraction=table(fractions), curvature=PARAMS_ARE_CURVATURE, update_interval=1
  )
  rows, _ = drive(method, np.ones_like(curvatures), curvatures)
  np.testing.assert_array_equal(rows, 1 + expected)


@pytest.mark.parametrize(
  ("flat_fraction", "num_flat"),
  [(0.29, 28), (np.float64(0.29), 28), (jnp.array(0.29), 29), (lambda count: 0.29, 28)],
  ids=["float", "numpy", "array", "schedule"],
)
def test_rank_is_an_int_for_numbers_and_float32_for_arrays(flat_fraction, num_flat):
  """100 * 0.29 is 28.999999999999996, but 29 in float32."""
  w = jnp.arange(1.0, 101.0)
  method = flatopt.ire(1.0, flat_fraction=flat_fraction, curvature=PARAMS_ARE_CURVATURE)
  _, state = once(method, w, w)
  assert state.mask.flat.sum() == num_flat
  assert state.mask.threshold == num_flat
  np.testing.assert_allclose(state.mask.flat_share, num_flat / 100, rtol=1e-6)


@pytest.mark.parametrize(
  ("size", "flat_fraction", "expected"),
  [
    (2**33 + 10, 0.5, 2**32 + 5),
    (2**33, jnp.array(0.75), 3 * 2**31),
    (2**24 + 3, jnp.array(1.0), 2**24 + 3),  # 2^24 + 4 in float32: more than there are
    (2**24 + 3, 1, 2**24 + 3),
  ],
)
def test_rank_in_large_models(size, flat_fraction, expected):
  high, low = _rank(size, flat_fraction)
  assert int(high) * 2**LOW_BITS + int(low) == expected


SCALES = jnp.array([5.0, -1.0, 3.0, 2.0])
ESTIMATORS = {
  "default": None,
  "optax": optax.contrib.hutchinson_estimator_diag_hessian(),
  "hutchinson": flatopt.curvature.hutchinson(num_samples=2, key=1),
}


@pytest.mark.parametrize("curvature", ESTIMATORS.values(), ids=ESTIMATORS)
def test_hutchinson_estimators(curvature):
  obj_fn = lambda w: jnp.sum(SCALES * w**2) / 2
  method = flatopt.ire(1.0, flat_fraction=0.5, curvature=curvature)
  w = jnp.ones(4)
  output, _ = once(method, w, w, grad_fn=jax.grad(obj_fn), obj_fn=obj_fn)
  assert output.tolist() == [1, 2, 1, 2]


def test_key_is_that_of_the_default_estimator():
  grad_fn = jax.grad(lambda w: jnp.sum(jnp.outer(w, w) ** 3 * jnp.arange(9.0).reshape(3, 3)))
  w = jnp.array([1.0, 2.0, 3.0])
  thresholds = [
    float(
      once(flatopt.ire(1.0, flat_fraction=1.0, **settings), w, w, grad_fn=grad_fn)[1].mask.threshold
    )
    for key in (1, 3)
    for settings in (dict(key=key), dict(curvature=flatopt.curvature.hutchinson(key=key)))
  ]
  assert thresholds[0] == thresholds[1] != thresholds[2] == thresholds[3]


def test_bfloat16_is_scaled_in_float32():
  u = np.linspace(1, 2, 64).astype(ml_dtypes.bfloat16)
  method = flatopt.ire(0.3, flat_fraction=1.0, curvature=PARAMS_ARE_CURVATURE)
  output, _ = once(method, jnp.asarray(u), jnp.zeros(64, jnp.bfloat16))
  expected = (u.astype(np.float32) * np.float32(1.3)).astype(ml_dtypes.bfloat16)
  np.testing.assert_array_equal(output, expected)
  assert output.dtype == jnp.bfloat16


def test_bfloat16_params_keep_a_float32_average():
  w = jnp.full(2, 0.01, jnp.bfloat16)
  method = flatopt.ire(1.0, flat_fraction=1.0, curvature=PARAMS_ARE_CURVATURE, decay=0.999)
  _, state = once(method, w, w)
  assert state.mask.curvature.dtype == jnp.float32
  np.testing.assert_allclose(state.mask.curvature, 0.001 * np.float32(w), rtol=1e-4)
