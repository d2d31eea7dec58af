"""Retrieval: a library of chunks, their neighbours, the models that read them, and what a test set leaked."""
