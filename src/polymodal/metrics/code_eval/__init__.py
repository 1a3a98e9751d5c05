"""Evaluation of generated code: running programs, and rendering pages."""
