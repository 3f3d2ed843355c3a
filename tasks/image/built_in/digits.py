"""The handwritten digits that ship with scikit-learn: real images without a download."""

import datasets
import numpy as np

# Part of the data set: rows are the same for every seed of a run.
_SPLIT_SEED = 0
_VALIDATION, _TEST = 180, 360


def digits() -> datasets.DatasetDict:
    """1,797 grayscale images of 8 x 8 pixels in 10 classes: 1,257 to train, 180 to validate, and 360 to test.

    The splits are drawn with a fixed seed and have equal shares of the classes.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998; its test part, as
    `sklearn.datasets.load_digits` has it.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    # Values are 0 to 16.
    images = np.rint(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list("0123456789"))})
    rest, test = train_test_split(np.arange(len(labels)), test_size=_TEST, random_state=_SPLIT_SEED, stratify=labels)
    train, validation = train_test_split(rest, test_size=_VALIDATION, random_state=_SPLIT_SEED, stratify=labels[rest])
    splits = datasets.DatasetDict()
    for name, rows in (("train", train), ("validation", validation), ("test", test)):
        content = {"image": list(images[rows]), "label": labels[rows].tolist()}
        splits[name] = datasets.Dataset.from_dict(content, features=features)
    return splits
