"""Ten million params: what a Hessian-vector product costs, and how many the top eigenvalue takes."""

import pytest

from benchmarks import sharpness

pytestmark = pytest.mark.usefixtures("full_optimization")


def test_a_product_is_at_most_three_gradients():
  assert sharpness.product_over_gradient() <= 3


@pytest.mark.slow
def test_sixteen_products_give_the_top_eigenvalue_to_a_percent():
  reference, _ = sharpness.top_eigenvalue(sharpness.REFERENCE, basis_size=16)
  value, _ = sharpness.top_eigenvalue(16)
  assert value == pytest.approx(reference, rel=0.01)
