"""What optax asks of its own optimizers in its own tests, where no other file here asks it."""

import jax
import pytest

from tests import problem
from tests.conformance.cases import CASES

each_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)


def shapes(tree):
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


@each_case
def test_init_of_shapes(case):
  """``init`` of ``jax.ShapeDtypeStruct``s, as loops call it that only want a restore target."""
  optimizer = case.make()
  params = problem.make_params()
  assert shapes(optimizer.init(shapes(params))) == shapes(optimizer.init(params))
