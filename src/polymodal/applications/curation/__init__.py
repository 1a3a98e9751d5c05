"""Curation: items of a data set that are nearly the same, and pairs that do not belong together."""
