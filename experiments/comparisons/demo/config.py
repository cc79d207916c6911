"""What a demo run is made of, every default in sight."""

import dataclasses

# Those that the demo compares: the seeds' and the plain base.
COMPARED = (
  "sgd",
  "lookahead",
  "sam",
  "asam",
  "rst",
  "g_rst",
  "sala",
  "lookbehind",
  "ire",
  "sam_ire",
  "ire_drift",
)


@dataclasses.dataclass(frozen=True)
class Config:
  methods: dict[str, dict[str, float]]  # by method: learning_rate, weight_decay, and its own
  momentum: float = 0.9
  seeds: tuple[int, ...] = (0, 1, 2)
  gradients: int = 800  # that every run pays
  batch_size: int = 128
  train_examples: int = 4000  # of the 5,000; the others are the test set
  wrong_labels: float = 0.4  # share of the training labels
  patch: int = 14
  width: int = 64
  blocks: int = 2
  sharpness_rho: float = 0.2  # of the perturbation under which every method's loss is measured,
  adaptive_rho: float = 0.5  # of the one that scales with the weights,
  sharpness_sigma: float = 0.02  # and of the noise
  landscape_span: float = 1.0  # in lengths of the filters
  landscape_points: int = 13  # along each of two directions
