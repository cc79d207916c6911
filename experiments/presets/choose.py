"""Configs by name, with parts replaced by name."""

import dataclasses
from collections.abc import Sequence
from typing import Any, get_type_hints

import tyro

from experiments import methods
from experiments.config import Config, DataSet, Opt, Refusal
from experiments.config.flags import parse
from experiments.config.registry import Registry, unknown
from experiments.data.registry import DATA_SETS
from experiments.models.registry import MODELS
from experiments.presets.registry import CONFIGS, TUNED

# Settings that may follow a method's name besides its own: "sam:rho=0.1,learning_rate=0.05".
SHARED = "learning_rate", "weight_decay", "clip", "warmup", "schedule", "restart", "final"


def find(
  name: str,
  method: str | None = None,
  *,
  base: str | None = None,
  model: str | None = None,
  data: str | None = None,
) -> Config:
  """A config by name, with the named parts in place of its own; settings follow a colon."""
  config = CONFIGS.find(name)
  try:
    if data is not None:
      chosen = dataclasses.replace(config.data, set=data_set(data))
      config = dataclasses.replace(config, data=chosen)
    if model is not None:
      config = dataclasses.replace(config, model=_named(MODELS, model))
    if base is not None:
      config = with_base(config, base)
    return config if method is None else with_method(config, method)
  except ValueError as error:
    raise Refusal(str(error)) from error


def data_set(text: str) -> DataSet:
  """A data set by name, with settings behind a colon."""
  try:
    return _named(DATA_SETS, text)
  except ValueError as error:
    raise Refusal(str(error)) from error


def with_base(config: Config, base: str) -> Config:
  """``config`` on another base, with that base's learning rate and weight decay."""
  name, _, changes = base.partition(":")
  entry = methods.BASES.find(name)
  if type(config.opt.base) is entry.config:
    opt = config.opt
  else:
    opt = dataclasses.replace(
      config.opt,
      base=entry.config(),
      learning_rate=entry.learning_rate,
      weight_decay=entry.weight_decay,
      schedule=entry.config.schedule or config.opt.schedule,
    )
  changed = dataclasses.replace(opt, base=with_settings(opt.base, name, changes))
  return dataclasses.replace(config, opt=changed)


def with_method(config: Config, method: str) -> Config:
  """``config`` with the method's settings: those tuned for this config if there are any.

  "rst:probability=0.25,rho=0.1" is the method with some of them changed.
  """
  name, _, changes = method.partition(":")
  kind = methods.find_method(config.opt.base, name)
  opt = config.opt
  if type(opt.method) is not kind:
    # Tuned settings belong together, and are not mixed with settings that the user changed.
    untouched = config.name in CONFIGS and opt == CONFIGS[config.name].opt
    tuned = TUNED[config.name].get(methods.METHODS.current_name(name)) if untouched else None
    opt = tuned or dataclasses.replace(opt, method=kind())
  return dataclasses.replace(config, opt=_changed(opt, name, _values_of(changes)))


def by_method(config: Config, names: Sequence[str]) -> dict[str, Config]:
  """``with_method`` of each name; two names of the same settings are refused."""
  found = {name: with_method(config, name) for name in names}
  if not names or len(set(found.values())) < len(names):
    raise Refusal("--methods must be named, and each be another")
  return found


def with_settings(part: Any, name: str, changes: str) -> Any:
  """A dataclass with "setting=value,..." changed."""
  return _replaced(part, name, _values_of(changes), _kinds(part))


def _named(registry: Registry, text: str) -> Any:
  name, _, changes = text.partition(":")
  return with_settings(registry.find(name), name, changes)


def _values_of(changes: str) -> dict[str, str]:
  pairs = (change.partition("=") for change in filter(None, changes.split(",")))
  return {setting.replace("-", "_"): value for setting, _, value in pairs}


def _changed(opt: Opt, name: str, values: dict[str, str]) -> Opt:
  own, shared = _kinds(opt.method), {n: kind for n, kind in _kinds(opt).items() if n in SHARED}
  for setting in values:
    if setting not in own | shared:
      raise Refusal(unknown(f"setting of {name}", setting, own | shared))
  method = _replaced(opt.method, name, {n: x for n, x in values.items() if n in own}, own)
  rest = {n: x for n, x in values.items() if n not in own}
  return _replaced(dataclasses.replace(opt, method=method), name, rest, shared)


def _kinds(part: Any) -> dict[str, Any]:
  hints = get_type_hints(type(part))  # real types, also of modules whose annotations are texts
  return {field.name: hints[field.name] for field in dataclasses.fields(part)}


def _replaced(part: Any, name: str, values: dict[str, str], kinds: dict[str, Any]) -> Any:
  for setting in values:
    if setting not in kinds:
      raise Refusal(unknown(f"setting of {name}", setting, kinds))
  parsed = {setting: _parsed(kinds[setting], name, setting, x) for setting, x in values.items()}
  try:
    return dataclasses.replace(part, **parsed)
  except ValueError as error:
    raise Refusal(str(error)) from error


def _parsed(kind: Any, name: str, setting: str, value: str) -> Any:
  try:
    return parse(tyro.conf.Positional[kind], [value], name)
  except Refusal:
    raise Refusal(f"{name}: {setting} cannot be {value!r}") from None
