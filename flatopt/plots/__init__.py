"""Figures of a minimum: the loss around it, and the spectrum of its Hessian.

This module needs matplotlib (``pip install flatopt[plots]``). ``import flatopt`` does not import
it.
"""

from flatopt.plots.landscape_contours import landscape_contours as landscape_contours
from flatopt.plots.landscape_line import landscape_line as landscape_line
from flatopt.plots.spectrum import spectrum as spectrum
