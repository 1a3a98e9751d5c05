"""Data curation: near-duplicate items and mismatched pairs in a data set."""
