"""Parts of a report about what was measured after the runs: each from its own files."""
