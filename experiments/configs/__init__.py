"""Every config by its name, one file a family."""

import dataclasses
from collections.abc import Sequence

import tyro

from experiments.command_line import parse
from experiments.config import Config, Method, Opt, Refusal
from experiments.configs import (
  digits,
  fashion_mnist,
  ire,
  language,
  lookbehind,
  mnist5k,
  rst,
  sala,
)
from experiments.methods import METHODS, Plain

_FAMILIES = digits, mnist5k, fashion_mnist, ire, rst, sala, lookbehind, language
CONFIGS: dict[str, Config] = {config.name: config for one in _FAMILIES for config in one.CONFIGS}
# By config and method, where the method's own defaults are not to be taken.
TUNED: dict[str, dict[str, Opt]] = {**mnist5k.TUNED, **ire.TUNED}


def find(name: str, method: str | None = None) -> Config:
  """A config by name, with another method where one is named."""
  if name not in CONFIGS:
    raise Refusal(f"unknown config {name}: choose from {', '.join(CONFIGS)}")
  config = CONFIGS[name]
  return config if method is None else with_method(config, method)


def methods_of(config: Config) -> dict[str, type]:
  """The methods by name; the base alone goes by the base's name."""
  name = config.opt.base.name
  return {m: kind for m, kind in METHODS.items() if kind is not Plain or m == name}


def with_method(config: Config, method: str) -> Config:
  """``config`` with the method's settings: those tuned for this config if there are any.

  "rst:probability=0.25,rho=0.1" is the method with some of them changed.
  """
  name, _, changes = method.partition(":")
  methods = methods_of(config)
  if name not in methods:
    raise Refusal(f"unknown method {name}: choose from {', '.join(methods)}")
  opt = config.opt
  if name != method_name(config):
    # Settings that were tuned together are not mixed with what the user chose.
    untouched = config.opt == CONFIGS[config.name].opt
    tuned = TUNED.get(config.name, {}).get(name) if untouched else None
    opt = tuned or dataclasses.replace(config.opt, method=methods[name]())
  changed = _with_settings(opt.method, name, changes)
  return dataclasses.replace(config, opt=dataclasses.replace(opt, method=changed))


def by_method(config: Config, names: Sequence[str]) -> dict[str, Config]:
  """``with_method`` of each name; two spellings of one setting are refused as well."""
  found = {name: with_method(config, name) for name in names}
  if not names or len(set(found.values())) < len(names):
    raise Refusal("--methods must be named, and each be another")
  return found


def _with_settings(method: Method, name: str, changes: str) -> Method:
  kinds = {field.name: field.type for field in dataclasses.fields(method)}
  values = {}
  for change in filter(None, changes.split(",")):
    setting, _, value = change.partition("=")
    if setting not in kinds:
      raise Refusal(f"unknown setting {setting} of {name}: choose from {', '.join(kinds)}")
    kind = kinds[setting]
    try:
      values[setting] = parse(tyro.conf.Positional[kind], [value], name)
    except Refusal:
      raise Refusal(f"{name}: {setting} cannot be {value!r}") from None
  try:
    return dataclasses.replace(method, **values)
  except ValueError as error:
    raise Refusal(str(error)) from error


def method_name(config: Config) -> str:
  names = {kind: name for name, kind in methods_of(config).items()}
  return names[type(config.opt.method)]
