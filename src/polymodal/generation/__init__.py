"""Writing: one loop for every decoder that writes, with greedy choice, beams, sampling, constraints and streaming."""
