"""What the runs of a comparison are judged by, and how it is written."""

from typing import Literal, NamedTuple

from experiments.config import Config


class Score(NamedTuple):
  """What runs are judged by: a key of the table's rows and of the runs."""

  key: str  # the runs' curves hold pairs (gradients paid, this)
  label: str
  digits: int
  better: Literal["higher", "lower"]
  reference: str  # the method that the others are compared with

  def text(self, mean: float, error: float | None = None, sign: str = "") -> str:
    """With a real minus, and the error where there is one."""
    whole = f"{mean:{sign}.{self.digits}f}".replace("-", "\u2212")
    return whole + ("" if error is None else f" ± {error:.{self.digits}f}")


ACCURACY = Score("test_accuracy", "test accuracy, %", 1, "higher", "sgd")
LOSS = Score("test_loss", "test loss, nats a token", 4, "lower", "adamw")


def score_of(config: Config, reference: str) -> Score:
  score = ACCURACY if config.data.set.task == "classification" else LOSS
  return score._replace(reference=reference)
