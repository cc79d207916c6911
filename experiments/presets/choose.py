"""A config by name, with other parts in place of its own."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tyro

from experiments import methods
from experiments.config import Config, Refusal
from experiments.config.flags import parse
from experiments.presets.registry import CONFIGS, TUNED


def find(name: str, method: str | None = None) -> Config:
  """A config by name, with another method where one is named."""
  config = CONFIGS.find(name)
  return config if method is None else with_method(config, method)


def with_method(config: Config, method: str) -> Config:
  """``config`` with the method's settings: those tuned for this config if there are any.

  "rst:probability=0.25,rho=0.1" is the method with some of them changed.
  """
  name, _, changes = method.partition(":")
  kind = methods.find_method(config.opt.base, name)
  opt = config.opt
  if type(opt.method) is not kind:
    # Settings that were tuned together are not mixed with what the user chose.
    untouched = config.name in CONFIGS and opt == CONFIGS[config.name].opt
    tuned = TUNED[config.name].get(methods.METHODS.spelled(name)) if untouched else None
    opt = tuned or dataclasses.replace(opt, method=kind())
  changed = with_settings(opt.method, name, changes)
  return dataclasses.replace(config, opt=dataclasses.replace(opt, method=changed))


def by_method(config: Config, names: Sequence[str]) -> dict[str, Config]:
  """``with_method`` of each name; two spellings of one setting are refused as well."""
  found = {name: with_method(config, name) for name in names}
  if not names or len(set(found.values())) < len(names):
    raise Refusal("--methods must be named, and each be another")
  return found


def with_settings(part: Any, name: str, changes: str) -> Any:
  """A dataclass with "setting=value,..." changed."""
  kinds = {field.name: field.type for field in dataclasses.fields(part)}
  values = {}
  for change in filter(None, changes.split(",")):
    setting, _, value = change.partition("=")
    if setting not in kinds:
      raise Refusal(f"unknown setting {setting} of {name}: choose from {', '.join(kinds)}")
    values[setting] = parsed(kinds[setting], name, setting, value)
  try:
    return dataclasses.replace(part, **values)
  except ValueError as error:
    raise Refusal(str(error)) from error


def parsed(kind: Any, name: str, setting: str, value: str) -> Any:
  try:
    return parse(tyro.conf.Positional[kind], [value], name)
  except Refusal:
    raise Refusal(f"{name}: {setting} cannot be {value!r}") from None
