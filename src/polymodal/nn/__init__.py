"""Networks: layers, encoders, fusions, decoders, objectives, and the network that they make."""
