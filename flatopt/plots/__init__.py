"""Figures of a minimum: the loss around it, and the spectrum of its Hessian.

This module needs matplotlib (``pip install flatopt[plots]``). ``import flatopt`` does not import
it.
"""

try:
  from flatopt.plots.landscape_contours import landscape_contours as landscape_contours
  from flatopt.plots.landscape_line import landscape_line as landscape_line
  from flatopt.plots.spectrum import spectrum as spectrum
except ModuleNotFoundError as error:
  message = "flatopt.plots needs matplotlib: pip install 'flatopt[plots]'"
  raise ModuleNotFoundError(message) from error
