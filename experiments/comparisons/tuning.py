"""The settings of a method's tuning trials, as many and as far for every method."""

import dataclasses

import scipy.stats

from experiments.config import Config

SEED = 1000  # that no comparison uses
HELD_OUT = 0.2  # of the training set, to judge trials on
FACTOR = 4.0  # trials look this far to both sides of a setting


def trial_configs(config: Config, trials: int) -> list[Config]:
  """The config's own setting first, then quasi-random ones around it, log-uniform.

  What varies is the learning rate, and the method's ``search`` or, where that is empty, the
  weight decay; Halton's points are the same for all methods.
  """
  opt, names = config.opt, config.opt.method.search
  points = scipy.stats.qmc.Halton(1 + max(1, len(names)), seed=0).random(max(0, trials - 1))
  found = [config] * min(1, trials)
  for rate_factor, *factors in FACTOR ** (2 * points - 1):
    own = {n: getattr(opt.method, n) * x for n, x in zip(names, factors, strict=False)}
    varied = dataclasses.replace(
      opt,
      learning_rate=float(opt.learning_rate * rate_factor),
      weight_decay=float(opt.weight_decay * (1 if names else factors[0])),
      method=dataclasses.replace(opt.method, **{n: float(x) for n, x in own.items()}),
    )
    found.append(dataclasses.replace(config, opt=varied))
  return found
