"""Methods after the base optimizer: they change its update."""

from flatopt.updates.ire_update import ire_update as ire_update
