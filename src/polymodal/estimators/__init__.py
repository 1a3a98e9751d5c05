"""Estimators: models of one target on features, without a network. One file per estimator."""
