"""Text generation for every decoder: greedy decoding, beam search, sampling, constraints and streaming."""
