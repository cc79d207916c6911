"""One run: the loop, the compiled step, its directory, checkpoints and batches."""
