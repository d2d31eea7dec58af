"""Family of searches: which points of a sweep's axes are tried."""
