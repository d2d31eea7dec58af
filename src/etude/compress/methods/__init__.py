"""Family of compression methods."""
