"""Compression: put something smaller in place of a component, and measure what is lost against what it costs."""
