"""Tools on a trained model: search, curation, active learning, few and no labels, compression."""
