"""The search for the best recipe: trials and baselines on the same folds, and what is chosen of them."""
