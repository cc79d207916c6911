"""Every config by name, with the settings that were tuned for it."""

from collections.abc import Mapping

from experiments.config import Config, Opt
from experiments.config.registry import Registry
from experiments.methods import METHODS, find_method, method_name

CONFIGS: Registry[Config] = Registry("config")
# Settings by config and method, which replace the method's defaults.
TUNED: dict[str, dict[str, Opt]] = {}


def register_config(config: Config, tuned: Mapping[str, Opt] | None = None) -> Config:
  """Adds a config under its name; ``tuned`` holds settings of methods on this config."""
  for opt in (config.opt, *(tuned or {}).values()):
    method_name(opt)  # refuses a method without a name before anything is trained
  for name in tuned or {}:
    find_method(config.opt.base, name)
  CONFIGS.add(config.name, config)
  TUNED[config.name] = {METHODS.current_name(name): opt for name, opt in (tuned or {}).items()}
  return config
