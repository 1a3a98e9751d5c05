"""Shared code of masked objectives: mask units by modality, masking, and the decoder."""
