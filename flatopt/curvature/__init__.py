"""Estimators of the diagonal of the Hessian, for ``ire`` and ``optax.contrib.sophia``."""

from flatopt.curvature.empirical_fisher import empirical_fisher as empirical_fisher
from flatopt.curvature.gauss_newton_bartlett import (
  gauss_newton_bartlett as gauss_newton_bartlett,
)
from flatopt.curvature.hutchinson import hutchinson as hutchinson
