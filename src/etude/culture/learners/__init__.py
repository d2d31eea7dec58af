"""What learns: one file for each algorithm, on one page, and what they share."""
