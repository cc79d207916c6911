"""Methods around the base optimizer: they decide when it steps, and from which params."""

from flatopt.wrappers.lookahead import lookahead as lookahead
from flatopt.wrappers.lookbehind import lookbehind as lookbehind
from flatopt.wrappers.momentum_sam import momentum_sam as momentum_sam
from flatopt.wrappers.sala import sala as sala
from flatopt.wrappers.weight_average import weight_average as weight_average
