"""Types that several modules share."""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax

Params: TypeAlias = Any  # pytree of real floating arrays
GradFn: TypeAlias = Callable[[Params], Params]
SampledGradFn: TypeAlias = Callable[[Params, jax.Array], Params]
Schedule: TypeAlias = Callable[[jax.typing.ArrayLike], jax.typing.ArrayLike]
ScalarOrSchedule: TypeAlias = jax.typing.ArrayLike | Schedule
Mask: TypeAlias = Any  # pytree of bools, or a callable: params -> pytree of bools
AxisName: TypeAlias = str | tuple[str, ...] | None
Axes: TypeAlias = tuple[
  tuple[str, ...], ...
]  # of every leaf, the mesh axes that it is sharded over
Limbs: TypeAlias = tuple[jax.Array, jax.Array]  # (high, low): high * 2^16 + low


@runtime_checkable
class MethodState(Protocol):
  """What ``introspection`` reads from a state: how a method reports on itself.

  It may also have ``eval_params``, the params to evaluate at; ``has_eval_params``, a bool
  array, where they do not hold from the start; and ``flat``, a bool mask like the params.
  """

  @property
  def method(self) -> str:
    """The method's public name."""
    ...

  @property
  def extra_gradients(self) -> jax.typing.ArrayLike:
    """Closure calls this state alone has paid for; states inside it count their own."""
    ...

  def metrics(self) -> dict[str, jax.Array]:
    """Scalars by the name of the quantity."""
    ...
