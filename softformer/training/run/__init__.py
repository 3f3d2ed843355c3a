"""The folder of a run and the metrics in it."""
