"""The family of tokenizers: how text becomes tokens."""
