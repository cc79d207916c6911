"""Reports, one file a kind, each from the files of what it reports."""
