"""Types that several modules use."""

from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar

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
