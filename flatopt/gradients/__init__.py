"""Methods before the base optimizer: they change the gradient by a second one at other params."""

from flatopt.gradients.ae_sam import ae_sam as ae_sam
from flatopt.gradients.asam import asam as asam
from flatopt.gradients.friendly_sam import friendly_sam as friendly_sam
from flatopt.gradients.gsam import gsam as gsam
from flatopt.gradients.looksam import looksam as looksam
from flatopt.gradients.rst import g_rst as g_rst
from flatopt.gradients.rst import rst as rst
from flatopt.gradients.sam import sam as sam
