"""Common parts of the papers' settings on images."""

import dataclasses
from collections.abc import Sequence

from experiments.config import Augment, Config, Data, Method, Model, Opt, Training
from experiments.data.sets import TfdsImages


def in_epochs(epochs: int, examples: int, batch_size: int, **training) -> Training:
  """The papers' budget: steps, however many gradients a step takes."""
  steps = epochs * examples // batch_size
  often = Training(steps, unit="steps", log_every=100, evaluations=50, checkpoint_every=1000)
  return dataclasses.replace(often, **training)


def cifar(
  name: str, classes: int, model: Model, opt: Opt, *, batch_size: int = 128, **training
) -> Config:
  """200 epochs of CIFAR-10 or CIFAR-100, cropped and flipped as is the field's custom."""
  data = TfdsImages(f"cifar{classes}", classes)
  return Config(
    name=name,
    data=Data(data, batch_size=batch_size, augment=Augment(crop=4, flip=True)),
    model=model,
    opt=opt,
    training=in_epochs(200, 50_000, batch_size, **training),
  )


def tuned(configs: Sequence[Config], **methods: Method) -> dict[str, dict[str, Opt]]:
  """The configs' settings for methods, in place of the methods' defaults."""
  return {
    config.name: {
      name: dataclasses.replace(config.opt, method=method) for name, method in methods.items()
    }
    for config in configs
  }
