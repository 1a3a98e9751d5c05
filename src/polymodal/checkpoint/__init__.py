"""Files: the model directory, dtypes of saved weights, and the state of a training run."""
