"""Types that several modules use."""

from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar, runtime_checkable

import jax

Params: TypeAlias = Any  # pytree of real floating arrays
Value = TypeVar("Value")  # what a loss function returns: a loss, or (loss, aux)
Args = ParamSpec("Args")  # the other arguments of a loss function
GradFn: TypeAlias = Callable[[Params], Params]
SampledGradFn: TypeAlias = Callable[[Params, jax.Array], Params]


class Schedule(Protocol):
  """A function from the count of steps to a number. A class, because editors show its name."""

  def __call__(self, count: Any, /) -> Any: ...


ScalarOrSchedule: TypeAlias = float | jax.Array | Schedule
Mask: TypeAlias = Any  # pytree of bools, or a callable: params -> pytree of bools
AxisName: TypeAlias = str | tuple[str, ...] | None
ShardAxes: TypeAlias = str | tuple[str, ...] | None
Axes: TypeAlias = tuple[tuple[str, ...], ...]  # for each leaf, the mesh axes it is sharded over
BigCount: TypeAlias = tuple[jax.Array, jax.Array]  # (high, low): high * 2^16 + low


@runtime_checkable
class MethodState(Protocol):
  """What a state must have so that the functions of ``opt_state`` can read it.

  A state may also have these attributes: ``eval_params``, a method that gets the params that are
  trained and returns those to evaluate at; and ``flat``, a bool mask like the params.
  """

  @property
  def method(self) -> str:
    """The public name of the method."""
    ...

  @property
  def extra_gradients(self) -> jax.typing.ArrayLike:
    """Extra gradients so far, without those of the states inside this state."""
    ...

  def metrics(self) -> dict[str, jax.Array]:
    """Scalars to log, by name."""
    ...
