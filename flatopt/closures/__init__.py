"""Functions that make the closures for ``update``, most of them with loss and gradients."""

from flatopt.closures.check import check as check
from flatopt.closures.functional_value_and_grad import (
  functional_value_and_grad as functional_value_and_grad,
)
from flatopt.closures.micro_value_and_grad import micro_value_and_grad as micro_value_and_grad
from flatopt.closures.sampled_label_grad_fn import sampled_label_grad_fn as sampled_label_grad_fn
from flatopt.closures.sharp_loss import sharp_loss as sharp_loss
from flatopt.closures.value_and_grad import value_and_grad as value_and_grad
