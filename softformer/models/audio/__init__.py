"""Audio networks: features, augmentation, windows, and heads."""
