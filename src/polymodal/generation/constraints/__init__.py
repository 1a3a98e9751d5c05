"""Constraints on generated texts: a list of choices, a regular expression, a JSON schema."""
