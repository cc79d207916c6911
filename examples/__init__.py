"""Complete training scripts. Run one with ``python -m examples.plain_jax``."""
