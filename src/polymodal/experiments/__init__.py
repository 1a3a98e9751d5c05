"""One experiment: a complete recipe and splits of a table -> a trained, scored model."""
