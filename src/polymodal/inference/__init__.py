"""What a network makes of prepared rows: predictions, embeddings, losses."""
