"""A validation part taken from the training split."""

import numpy as np


def validation_part(
    num_rows: int, fraction: float, seed: int, classes: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Divide row numbers into a training and a validation part, both ascending and not empty, by a seed.

    Both parts have equal shares of the classes, (num_rows,) numbers, where every class can be in both.
    """
    from sklearn.model_selection import train_test_split

    size = round(num_rows * fraction)
    if not 0 < size < num_rows:
        raise ValueError(
            f"val_fraction={fraction}: {num_rows} training rows give {size} rows for validation; choose another "
            f"fraction, or a split of the data set by val_split"
        )
    if classes is not None:
        counts = np.unique(classes, return_counts=True)[1]
        if counts.min() < 2 or len(counts) > min(size, num_rows - size):
            classes = None
    train, validation = train_test_split(
        np.arange(num_rows), test_size=size, random_state=seed % 2**32, stratify=classes
    )
    return np.sort(train), np.sort(validation)
