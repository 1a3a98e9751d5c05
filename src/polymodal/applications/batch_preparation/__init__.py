"""Prepared shards of a large table, from which models are trained, on any engine."""
