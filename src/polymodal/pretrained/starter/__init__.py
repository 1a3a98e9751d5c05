"""Checkpoints that come with packages."""
