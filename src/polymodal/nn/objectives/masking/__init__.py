"""What masked objectives share: the parts of an item by modality, which are hidden, and what predicts them."""
