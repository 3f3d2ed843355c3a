"""Checkpoints: their content, loading, and resuming."""
