"""Explanations of predictions: contributions of inputs and of the parts of an input, with a measured faithfulness."""
