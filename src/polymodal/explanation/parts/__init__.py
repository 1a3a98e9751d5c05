"""The parts of an item: words, image regions, spans of time, columns; and items without some of them."""
