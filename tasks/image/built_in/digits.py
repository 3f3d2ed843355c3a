"""The handwritten digits that ship with scikit-learn: real pictures without a download."""

import datasets
import numpy as np

# Part of the data set: the same rows for every seed of a run.
_SPLIT_SEED = 0
_VALIDATION, _TEST = 180, 360


def digits() -> datasets.DatasetDict:
    """1,797 grey pictures of 8 x 8 pixels in 10 classes, divided into 1,257 to train, 180 to validate, 360 to test.

    The parts are drawn with a fixed seed and keep the shares of the classes.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998; its test part, as
    `sklearn.datasets.load_digits` has it.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pictures, labels = load_digits(return_X_y=True)
    # Pixels count 0 to 16 dots.
    pictures = np.rint(pictures.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=[str(digit) for digit in range(10)])}
    )
    rest, test = train_test_split(np.arange(len(labels)), test_size=_TEST, random_state=_SPLIT_SEED, stratify=labels)
    train, validation = train_test_split(rest, test_size=_VALIDATION, random_state=_SPLIT_SEED, stratify=labels[rest])
    return datasets.DatasetDict(
        {
            name: datasets.Dataset.from_dict(
                {"image": list(pictures[rows]), "label": labels[rows].tolist()}, features=features
            )
            for name, rows in (("train", train), ("validation", validation), ("test", test))
        }
    )
