"""Family of trackers: where the metrics of a run's record go to besides."""
