"""Where a model is worse than elsewhere, and how new rows differ from others, with corrected tests."""
