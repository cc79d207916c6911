"""The score of a comparison's runs, and its form in tables."""

from typing import Any, Literal, NamedTuple

from experiments.config import Config


class Score(NamedTuple):
  """The number that runs are compared by; ``key`` is its name in tables and runs."""

  key: str  # the runs' curves hold pairs (gradients paid, this)
  label: str
  digits: int
  better: Literal["higher", "lower"]
  reference: str  # the method that the others are compared with

  def text(self, mean: float, error: float | None = None, sign: str = "") -> str:
    """The score as text, with a minus sign in place of the hyphen, and with its error if given."""
    number = f"{mean:{sign}.{self.digits}f}".replace("-", "\u2212")
    return number + ("" if error is None else f" ± {error:.{self.digits}f}")


ACCURACY = Score("test_accuracy", "test accuracy, %", 1, "higher", "sgd")
LOSS = Score("test_loss", "test loss, nats a token", 4, "lower", "adamw")


def by_key(key: str) -> Score:
  return {score.key: score for score in (ACCURACY, LOSS)}[key]


def score_of_table(table: list[dict[str, Any]]) -> Score:
  """The score that a finished comparison's table has; runs have accuracy and loss, whatever it is."""
  return ACCURACY if ACCURACY.key in table[0] else LOSS


def score_of(config: Config, reference: str) -> Score:
  score = ACCURACY if config.data.set.task == "classification" else LOSS
  return score._replace(reference=reference)
