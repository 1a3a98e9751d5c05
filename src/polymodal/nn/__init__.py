"""Networks: layers, encoders, fusions, decoders, objectives, and the network built from them."""
