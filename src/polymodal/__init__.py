"""Polymodal: a table of mixed media in, a multimodal model out."""

__version__ = "0.1.0"
