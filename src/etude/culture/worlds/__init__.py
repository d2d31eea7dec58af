"""The family of worlds: where walls stand."""
