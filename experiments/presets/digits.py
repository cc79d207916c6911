"""scikit-learn's 8x8 digits: seconds a run."""

from experiments.config import Config, Data, Opt, Training
from experiments.data.sets import Digits
from experiments.methods import AdamW, Sam, Sgd
from experiments.models.shapes import Mixer

_SGD = Opt(method=Sam(), base=Sgd(), learning_rate=0.05, weight_decay=5e-4)
_ADAMW = Opt(method=Sam(), base=AdamW(), learning_rate=3e-3, weight_decay=0.01, warmup=0.05)
_CONFIG = Config(
  name="digits",
  data=Data(Digits(), batch_size=64),
  model=Mixer(patch=2, width=32, blocks=2),
  opt=_SGD,
  training=Training(budget=1000, checkpoint_every=100),
)

CONFIGS = (
  _CONFIG,
  Config("digits-adamw", _CONFIG.data, _CONFIG.model, _ADAMW, _CONFIG.training),
)
