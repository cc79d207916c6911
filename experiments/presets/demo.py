"""MNIST's 5,000 digits with wrong labels: the demo's setting, a minute or two a run."""

import json
from pathlib import Path

from experiments import methods
from experiments.config import Config, Data, Opt, Training
from experiments.data.sets import Mnist5k
from experiments.models.shapes import Mixer

TUNING = Path(__file__).parents[1] / "demo" / "tuning.json"  # every trial, and what was chosen
CHOSEN = json.loads(TUNING.read_text())["chosen"]


def opt(settings: dict[str, float], method: str) -> Opt:
  """The optimizer of a method at a trial's settings."""
  own = dict(settings)
  return Opt(
    learning_rate=own.pop("learning_rate"),
    weight_decay=own.pop("weight_decay"),
    base=methods.Sgd(momentum=0.9),
    method=methods.methods_on(methods.Sgd())[method](**own),
  )


TUNED = {"demo": {method: opt(own, method) for method, own in CHOSEN.items()}}
CONFIGS = (
  Config(
    name="demo",
    data=Data(Mnist5k(train_examples=4000), batch_size=128, wrong_labels=0.4),
    model=Mixer(patch=14, width=64, blocks=2),
    opt=TUNED["demo"]["sam"],
    training=Training(budget=800),
  ),
)
