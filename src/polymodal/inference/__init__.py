"""Inference on prepared rows: predictions, embeddings, texts and losses."""
