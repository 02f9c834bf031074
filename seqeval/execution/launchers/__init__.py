"""Where the jobs of a study run: one file for each launcher."""
