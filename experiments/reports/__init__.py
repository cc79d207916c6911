"""Reports, one file a kind, made from the files of runs and comparisons."""
