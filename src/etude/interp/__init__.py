"""Looking inside a model: attention patterns, and what later instruments add."""
