"""Preparation of rows as tensors, and the feature cache of frozen layers."""
