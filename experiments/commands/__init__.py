"""One file a command; `program.py` picks one by name."""
