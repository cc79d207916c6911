"""Runs side by side: at equal budgets, on one task after another, and the steps that are saved."""
