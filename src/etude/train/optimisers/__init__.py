"""Family of optimisers."""
