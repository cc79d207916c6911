"""Experiments over flatopt: a program that the library never imports."""

from experiments.notebook import load as load
from experiments.notebook import train as train
