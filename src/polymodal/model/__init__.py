"""What users hold: a model, an ensemble, and how they are read back."""
