"""Uncertainty of predictions: conformal sets and intervals, and abstention, from rows that training did not use."""
