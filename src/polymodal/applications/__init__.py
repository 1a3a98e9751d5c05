"""Applications of a trained model: search, data curation, active learning, few-shot and zero-shot, compression."""
