"""The settings of tuning trials, equally many and equally wide for every method."""

import dataclasses

import scipy.stats

from experiments.config import Config

SEED = 1000  # of all trials, which no comparison uses
HELD_OUT = 0.2  # share of the training set on which trials are compared
FACTOR = 4.0  # trials vary a setting by up to this factor, up and down


def trial_configs(config: Config, trials: int) -> list[Config]:
  """The config's own setting first, then quasi-random ones around it, log-uniform.

  The learning rate varies with the method's ``search`` fields or, if it has none, with the weight
  decay; the quasi-random points are the same for all methods.
  """
  opt, names = config.opt, config.opt.method.search
  points = scipy.stats.qmc.Halton(1 + max(1, len(names)), seed=0).random(max(0, trials - 1))
  trial_list = [config] * min(1, trials)
  for rate_factor, *factors in FACTOR ** (2 * points - 1):
    own = {n: getattr(opt.method, n) * x for n, x in zip(names, factors, strict=False)}
    varied = dataclasses.replace(
      opt,
      learning_rate=float(opt.learning_rate * rate_factor),
      weight_decay=float(opt.weight_decay * (1 if names else factors[0])),
      method=dataclasses.replace(opt.method, **{n: float(x) for n, x in own.items()}),
    )
    trial_list.append(dataclasses.replace(config, opt=varied))
  return trial_list
