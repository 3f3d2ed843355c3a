"""Tasks: training, evaluation and prediction on real data, from YAML through one command line."""
