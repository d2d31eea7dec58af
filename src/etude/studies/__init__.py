"""Family of studies: one file a question, where the instruments meet."""
