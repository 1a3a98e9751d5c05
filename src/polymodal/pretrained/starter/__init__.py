"""Starter checkpoints: weights from installed Python packages."""
