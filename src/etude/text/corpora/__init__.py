"""The family of corpora: where text comes from."""
