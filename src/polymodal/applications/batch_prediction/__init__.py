"""Predictions of large tables, shard by shard, on any engine."""
