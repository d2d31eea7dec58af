"""Tasks: files of items, and what a model is asked with them."""
