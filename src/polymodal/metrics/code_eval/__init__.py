"""Scores of written code: programs that are run, pages that are drawn."""
