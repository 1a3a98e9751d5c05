"""Models for other runtimes: the network as a graph, with the description of its tensors and a check of parity."""
