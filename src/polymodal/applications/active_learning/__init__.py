"""Active learning: choose the rows of an unlabeled table to label next."""
