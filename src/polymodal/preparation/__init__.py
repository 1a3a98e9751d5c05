"""Rows -> prepared tensors, and the cache of what frozen layers make of them."""
