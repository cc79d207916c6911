"""Comparisons of methods: at equal budgets, on one task after another, and by steps saved."""
