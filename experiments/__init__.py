"""Experiments over flatopt: a program that the library never imports."""
