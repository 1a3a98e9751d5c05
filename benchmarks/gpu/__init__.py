"""One prepared script for a machine with an accelerator: `python -m benchmarks.gpu`."""
