"""Softformer."""
