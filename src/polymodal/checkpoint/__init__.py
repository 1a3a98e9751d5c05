"""Files on the disk: the model directory, number formats of weights, the state of a training run."""
