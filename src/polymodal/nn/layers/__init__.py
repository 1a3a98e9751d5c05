"""Layers that are shared by encoders, fusions and decoders."""
