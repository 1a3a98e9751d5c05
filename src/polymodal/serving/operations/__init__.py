"""The computations of the worker on rows: predictions, embeddings, texts."""
