"""From a table to a result in one call: fit, cross-validation, comparisons, scikit-learn."""
