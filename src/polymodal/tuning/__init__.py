"""Recipe search: trials and baselines on the same folds, and selection of the best model and ensemble."""
