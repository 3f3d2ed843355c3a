"""Image files to be classified: a folder or a list of files, with their names."""

from collections.abc import Sequence

import datasets
import numpy as np

from tasks.data.examples import Examples, OnBad, Split
from tasks.data.files import list_files
from tasks.image.examples import ImageCollator, ImageReader
from tasks.image.folders import IMAGE_SUFFIXES
from tasks.image.processor import ImageProcessor


def list_images(images: str | Sequence[str]) -> list[str]:
    """Image files in a stable order.

    Args:
        images: a folder (with the folders in it), a file, a pattern such as "photos/*.jpg", or a list of these.

    Raises:
        FileNotFoundError: one of them does not exist.
        ValueError: no image files among them.
    """
    return list_files("images", images, IMAGE_SUFFIXES, "image")


def image_files(
    images: str | Sequence[str],
    processor: ImageProcessor,
    *,
    on_bad: OnBad = "error",
    remedy: str = "Repair or remove it",
    num_threads: int = 1,
) -> Examples:
    """Files as examples.

    Args:
        images: As in `list_images`.
        processor: Prepares the images.
        on_bad: At a file that cannot be decoded, "error" raises, "skip" leaves it out.
        remedy: What the error advises.
        num_threads: Files decoded at a time while those to be left out are looked for.
    """
    files = list_images(images)
    split = Split("images", datasets.Dataset.from_dict({"file": files}), np.arange(len(files)))
    read, collate = ImageReader("file", None, processor), ImageCollator(processor, files=files)
    examples = Examples(split, read, collate, on_bad=on_bad, remedy=remedy)
    if on_bad == "skip":
        examples.remove_unreadable(num_threads)
    return examples
