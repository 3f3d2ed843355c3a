"""Vision networks: the SOFT pyramid and the authors' checkpoints."""
