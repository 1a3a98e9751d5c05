"""The contestants: `worker.py` runs one of them in a fresh process, in the environment of its libraries."""
