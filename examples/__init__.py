"""Complete training scripts, each on its own: ``python -m examples.plain_jax``."""
