"""Estimators of the diagonal of the Hessian, for ``ire`` and ``optax.contrib.sophia``."""

from flatopt.curvature.hutchinson import hutchinson as hutchinson
from flatopt.curvature.squared_gradients import empirical_fisher as empirical_fisher
from flatopt.curvature.squared_gradients import gauss_newton_bartlett as gauss_newton_bartlett
