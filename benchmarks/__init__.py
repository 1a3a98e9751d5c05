"""Benchmarks: ratios of Polymodal to a reference that does the same work, measured in one run."""

BENCHMARKS = (
    "training_loop",
    "batch_prediction",
    "one_row",
    "startup",
    "memory",
    "machine_choice",
    "transformers_trainer",
    "ludwig_library",
)
