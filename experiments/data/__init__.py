"""Data sets: random-access sources of dicts of NumPy arrays."""
