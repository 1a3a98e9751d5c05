"""Tests that two checkouts of this repository compute the same weights, metrics and predictions, to the last bit."""
