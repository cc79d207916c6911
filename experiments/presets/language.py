"""Llama pre-training with AdamW: small ones on the standard library, IRE's on named text."""

import dataclasses

from experiments.config import Config, Data, Opt, Training
from experiments.data.sets import StandardLibrary, Text, TextFiles, TfdsText
from experiments.methods import AdamW, Ire
from experiments.models import LLAMA_SHAPES
from experiments.models.shapes import Llama

# The IRE paper's, section 5 (arXiv 2405.20763): T_w is the end of the warm-up.
_IRE = Ire(kappa=3.0, flat_fraction=0.6, update_interval=10, start=0.02)
OPT = Opt(
  method=_IRE,
  base=AdamW(b1=0.9, b2=0.95),
  learning_rate=6e-4,
  weight_decay=0.1,
  clip=1.0,
  warmup=0.02,
  final=1 / 20,
)


def _small(name: str, shape: str, learning_rate: float, **training) -> Config:
  ire = dataclasses.replace(_IRE, start=0.05)
  opt = dataclasses.replace(OPT, method=ire, warmup=0.05, learning_rate=learning_rate)
  return Config(
    name=name,
    data=Data(StandardLibrary(length=128), batch_size=16),
    model=Llama(**LLAMA_SHAPES[shape]),
    opt=opt,
    training=Training(budget=1000, unit="steps", **training),
  )


def _paper(name: str, shape: str, text: type[Text], **source: str) -> Config:
  return Config(
    name=name,
    data=Data(text(length=150, vocab_size=50304, **source), batch_size=240),
    model=Llama(**LLAMA_SHAPES[shape]),
    opt=OPT,
    training=Training(
      budget=50_000, unit="steps", compute_dtype="bfloat16", evaluations=50, checkpoint_every=1000
    ),
  )


CONFIGS = (
  _small("llama-0.9m", "0.9M", 1e-3),
  _small("llama-11m", "11M", 6e-4, microbatches=2),
  _paper("llama-60m", "60M", TextFiles, directory="wikitext-103"),
  # Not stated for these two: sequence, batch, and steps.
  _paper("llama-119m", "119M", TextFiles, directory="minipile"),
  _paper("llama-229m", "229M", TextFiles, directory="openwebtext"),
  # Of no paper: any text set of TFDS, by --data.name.
  _paper("llama-60m-tfds", "60M", TfdsText),
)
