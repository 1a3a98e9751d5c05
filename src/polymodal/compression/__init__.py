"""Smaller and faster forms of a trained model, each beside what it costs in score."""
