"""Figures drawn from arrays, each in a light and a dark version."""
