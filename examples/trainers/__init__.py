"""Whole trainers, each beside the same trainer without flatopt; the page Your trainer shows the diffs."""
