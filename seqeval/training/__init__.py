"""Agents that learn: the training loop and what stands behind it."""
