"""Measures of how flat the loss is around given params.

You can jit every measure. Outside jit, every call is compiled.
"""

from flatopt.sharpness.ascent import ascent as ascent
from flatopt.sharpness.batches import over_batches as over_batches
from flatopt.sharpness.batches import over_iterable as over_iterable
from flatopt.sharpness.block import hessian_vector_product as hessian_vector_product
from flatopt.sharpness.landscape import (
  filter_normalized_directions as filter_normalized_directions,
)
from flatopt.sharpness.landscape import loss_landscape as loss_landscape
from flatopt.sharpness.operators import gauss_newton as gauss_newton
from flatopt.sharpness.operators import hessian as hessian
from flatopt.sharpness.sampling import Estimate as Estimate
from flatopt.sharpness.sampling import average as average
from flatopt.sharpness.sampling import trace as trace
from flatopt.sharpness.spectrum import SpectralDensity as SpectralDensity
from flatopt.sharpness.spectrum import smallest_eigenvalues as smallest_eigenvalues
from flatopt.sharpness.spectrum import spectral_density as spectral_density
from flatopt.sharpness.spectrum import top_eigenvalues as top_eigenvalues
