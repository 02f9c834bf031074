"""Runs studies: jobs, their files, their progress, and where they run."""
