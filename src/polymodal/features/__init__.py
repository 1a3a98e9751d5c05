"""Features for estimators: one file per featurizer, which turns the prepared items of one input into columns."""
