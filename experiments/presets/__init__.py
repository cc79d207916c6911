"""Named configs, one file a family: `list configs` shows them."""

from experiments.presets import built_in as built_in
from experiments.presets.choose import by_method as by_method
from experiments.presets.choose import data_set as data_set
from experiments.presets.choose import find as find
from experiments.presets.choose import with_method as with_method
from experiments.presets.registry import CONFIGS as CONFIGS
from experiments.presets.registry import TUNED as TUNED
from experiments.presets.registry import register_config as register_config
