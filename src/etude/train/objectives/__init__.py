"""Family of training objectives."""
