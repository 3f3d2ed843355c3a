"""Data sets that are built in."""
