"""Figures from arrays alone, each drawn for light and for dark ground."""
