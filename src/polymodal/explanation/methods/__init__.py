"""Methods that score the parts of an item."""
