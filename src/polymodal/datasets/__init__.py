"""Data sets: planted signals by `make_*`, packaged ones by `load_*`."""
