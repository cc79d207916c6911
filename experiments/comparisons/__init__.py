"""Runs side by side: equal budgets, one task after another, fine-tuning, steps that are saved."""
