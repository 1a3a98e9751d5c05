"""One experiment: a complete recipe and parts of a table -> a trained, scored model."""
