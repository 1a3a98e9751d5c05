"""What a generated text must be: one of several choices, a regular expression, a grammar."""
