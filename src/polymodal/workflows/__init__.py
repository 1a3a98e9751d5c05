"""High-level functions: fit, pretraining, cross-validation, model comparison, scikit-learn estimators."""
