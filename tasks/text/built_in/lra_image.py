"""Image of Long Range Arena: the images of CIFAR-10 as texts with a character for each pixel."""

from io import BytesIO
from typing import Any

import datasets
import numpy as np
from PIL import Image

from tasks.data.examples import ReadError
from tasks.data.pillow_errors import PILLOW_ERRORS
from tasks.data.sources import DataFiles, Source, load_from_hub

_HUB = "uoft-cs/cifar10"
# The 256 Braille patterns: printable, of no other use in texts, and in the order of the gray values.
_FIRST = 0x2800
# Raise it with the texts: `datasets` caches them under a name that does not depend on the code.
_VERSION = 1


def lra_image(data_dir: str | None = None, data_files: DataFiles | None = None) -> datasets.DatasetDict:
    """Splits train and test with the columns text and label; 1,024 characters for an image of CIFAR-10.

    A text holds the grayscale pixels of an image, row by row. The character of gray value g is U+2800 + g, so
    `tasks.text.tokens.tokenizers.CodePointsSpec` with first 0x2800 and count 256 is its tokenizer.

    Args:
        data_dir: folder of parquet files with splits train and test. One column holds images; other columns stay.
        data_files: files by split instead of the folder. Without both, the data set is CIFAR-10 of the hub.

    Source: Y. Tay et al., "Long Range Arena", 2021 (arXiv 2011.04006), section 2.2.4.
    """
    source, splits = load_from_hub("lra/image", _HUB, data_dir, data_files)
    return datasets.DatasetDict({name: _texts(source, name, rows) for name, rows in splits.items()})


def _texts(source: Source, name: str, rows: datasets.Dataset) -> datasets.Dataset:
    """A split with texts instead of images, from the cache where it was made before."""
    images = [column for column, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    if len(images) != 1:
        raise ValueError(
            f"{source}: split {name!r} must have one column of images, got {len(images)} among "
            f"{', '.join(rows.column_names)}; give files of CIFAR-10, or others that `datasets` wrote"
        )
    others = {column: feature for column, feature in rows.features.items() if column not in (*images, "text")}
    return rows.cast_column(images[0], datasets.Image(decode=False)).map(
        _with_texts,
        batched=True,
        with_indices=True,
        fn_kwargs={"column": images[0], "split": name, "version": _VERSION},
        remove_columns=[column for column in rows.column_names if column not in others],
        features=datasets.Features({"text": datasets.Value("string"), **others}),
        desc=f"Pixels of {name}",
    )


def _with_texts(rows: dict[str, Any], numbers: list[int], column: str, split: str, version: int) -> dict[str, Any]:
    return {"text": [_pixels(value, f"split {split!r}, row {number}") for value, number in zip(rows[column], numbers)]}


def _pixels(value: dict[str, Any] | None, place: str) -> str | None:
    """The text of an image as `datasets` stores it; None for a missing one."""
    if value is None or (value["bytes"] is None and not value["path"]):
        return None
    try:
        with Image.open(value["path"] if value["bytes"] is None else BytesIO(value["bytes"])) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"its pixels have more than 8 bits (mode {image.mode})")
            gray = np.asarray(image.convert("L"))
    except PILLOW_ERRORS as error:
        raise ReadError(f"{place}: the image cannot be decoded: {error}") from error
    return (gray.astype("<u2").ravel() + np.uint16(_FIRST)).tobytes().decode("utf-16-le")
