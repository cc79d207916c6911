"""MNIST's 5,000 digits with wrong labels: the demo's setting, a minute or two a run."""

import json
from pathlib import Path

from experiments.config import Config, Data, Training
from experiments.configs.data import Mnist5k
from experiments.configs.models import Mixer
from experiments.demo import config as demo

_TUNING = json.loads((Path(demo.__file__).with_name("tuning.json")).read_text())
_DEMO = demo.Config(methods=_TUNING["chosen"])

TUNED = {"demo": {method: demo.opt(_DEMO, method) for method in demo.COMPARED}}
CONFIGS = (
  Config(
    name="demo",
    data=Data(
      Mnist5k(_DEMO.train_examples), batch_size=_DEMO.batch_size, wrong_labels=_DEMO.wrong_labels
    ),
    model=Mixer(_DEMO.patch, _DEMO.width, _DEMO.blocks),
    opt=TUNED["demo"]["sam"],
    training=Training(budget=_DEMO.gradients),
  ),
)
