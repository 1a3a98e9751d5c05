"""Active learning: which rows of an unlabelled table are most worth a label."""
