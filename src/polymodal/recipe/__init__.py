"""The declarative description of a model and its training: typed, strict, YAML or JSON."""
