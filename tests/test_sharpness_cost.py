"""Ten million params: what a Hessian-vector product costs, and how many the top eigenvalue takes."""

import pytest

from benchmarks import sharpness

pytestmark = pytest.mark.usefixtures("full_optimization")


@pytest.mark.parametrize(
  ("name", "gradients"),
  [
    ("Hessian", 3),
    ("Hessian, reverse-reverse", 3),
    ("Gauss-Newton", 2),
    ("Gauss-Newton, reverse-reverse", 2),
  ],
)
def test_what_a_product_costs(name, gradients):
  assert sharpness.product_over_gradient(sharpness.OPERATORS[name]) <= gradients


@pytest.mark.slow
def test_sixteen_products_give_the_top_eigenvalue_to_a_percent():
  reference, _ = sharpness.top_eigenvalue(sharpness.REFERENCE, basis_size=16)
  value, _ = sharpness.top_eigenvalue(16)
  assert value == pytest.approx(reference, rel=0.01)
