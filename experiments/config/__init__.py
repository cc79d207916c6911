"""The types of configs, their registries, flags and files, which all other packages import."""

from experiments.config.data import Augment as Augment
from experiments.config.data import Data as Data
from experiments.config.data import DataSet as DataSet
from experiments.config.data import Lifelong as Lifelong
from experiments.config.optimizer import Base as Base
from experiments.config.optimizer import Method as Method
from experiments.config.optimizer import Opt as Opt
from experiments.config.part import Inline as Inline
from experiments.config.part import Part as Part
from experiments.config.part import checked as checked
from experiments.config.part import differences as differences
from experiments.config.part import from_dict as from_dict
from experiments.config.part import to_dict as to_dict
from experiments.config.refusal import Refusal as Refusal
from experiments.config.refusal import reason as reason
from experiments.config.run import Config as Config
from experiments.config.run import Model as Model
from experiments.config.run import Training as Training
