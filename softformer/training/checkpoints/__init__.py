"""Checkpoints: what they hold, how they load, and whether a run can resume from them."""
