"""Layers that encoders and fusions share."""
