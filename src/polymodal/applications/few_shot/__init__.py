"""Few-shot and zero-shot classification: heads on the frozen embeddings of a model."""
