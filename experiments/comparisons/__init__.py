"""Comparisons of methods: equal budgets, one task after another, fine-tuning, steps saved."""
