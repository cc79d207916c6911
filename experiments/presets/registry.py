"""Every config by its name, with what was tuned for it."""

from collections.abc import Mapping

from experiments.config import Config, Opt
from experiments.config.registry import Registry
from experiments.methods import METHODS, find_method, method_name

CONFIGS: Registry[Config] = Registry("config")
# By config and method, where the method's own defaults are not to be taken.
TUNED: dict[str, dict[str, Opt]] = {}


def register_config(config: Config, tuned: Mapping[str, Opt] | None = None) -> Config:
  """Adds a config under its name; ``tuned`` holds what a method takes with it, by method."""
  for opt in (config.opt, *(tuned or {}).values()):
    method_name(opt)  # refuses what has none, before anything is trained with it
  for name in tuned or {}:
    find_method(config.opt.base, name)
  CONFIGS.add(config.name, config)
  TUNED[config.name] = {METHODS.spelled(name): opt for name, opt in (tuned or {}).items()}
  return config
