"""Pretrained checkpoints: where they come from, what their files say, and their networks."""
