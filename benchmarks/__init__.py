"""Benchmarks: ratios of Polymodal to a reference that does the same work, measured in one run."""
