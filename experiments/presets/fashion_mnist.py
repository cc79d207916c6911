"""Fashion-MNIST from IDX files: of no paper, 20 epochs where a step takes one gradient."""

from experiments.config import Augment, Config, Data, Opt, Training
from experiments.data.sets import IdxImages
from experiments.methods import Sam, Sgd
from experiments.models.shapes import RESNET18

CONFIGS = (
  Config(
    name="fashion-mnist",
    data=Data(IdxImages(), batch_size=128, augment=Augment(crop=2, flip=True)),
    model=RESNET18,
    opt=Opt(method=Sam(), base=Sgd(nesterov=True), learning_rate=0.05, weight_decay=5e-4),
    training=Training(budget=20 * 60_000 // 128, log_every=50, evaluations=20),
  ),
)
