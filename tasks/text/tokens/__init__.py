"""Tokenizers: their options, their learning, and whether two of them agree."""
