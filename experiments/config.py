"""What a demo run is made of, every default in sight."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Config:
  methods: dict[str, dict[str, float]]  # by method: learning_rate, weight_decay, and its own
  momentum: float = 0.9
  seeds: tuple[int, ...] = (0, 1, 2)
  gradients: int = 800  # that every run pays
  batch_size: int = 128
  train_examples: int = 4000  # of the 5,000; the others are the test set
  wrong_labels: float = 0.4  # share of the training labels
  patch: int = 7
  width: int = 64
  blocks: int = 2
  sharpness_rho: float = 0.2  # at which every method's loss increase is measured
