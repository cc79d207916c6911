"""IRE, before or after the base optimizer: it enhances what happens along flat coordinates."""

from flatopt.implicit_regularisation.ire import ire as ire
