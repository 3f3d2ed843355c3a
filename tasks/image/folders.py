"""Folders of images as data sets: class folders, and tables that name image files."""

from functools import cached_property
from pathlib import Path
from typing import Any

import datasets

from tasks.data.folder_sources import FolderSource
from tasks.data.folders import in_order, split_of
from tasks.data.sources import options_of, streamed

# Endings of the image files that are trained on and predicted.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".avif", ".tif", ".tiff"),
    *(".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico", ".psd", ".pcx", ".dds", ".qoi"),
)


class ImageSource(FolderSource):
    """A data set of images: a `Source` that reads local folders of images itself, with or without "imagefolder".

    - FOLDER/CLASS/FILE is the split train; FOLDER/SPLIT/CLASS/FILE is the split that SPLIT names.
    - A table metadata.csv, .jsonl or .parquet, in FOLDER or in each SPLIT, names its image files in the column
      file_name, which becomes the column image.
    - Tables that name a split, such as train.csv, are read instead of the images beside them.
    """

    format_name = "imagefolder"
    column = "image"
    kind = "image"
    suffixes = IMAGE_SUFFIXES
    metadata = ("metadata.csv", "metadata.jsonl", "metadata.parquet")

    def _read_folder(self) -> Any:
        if self.table_source is not None:
            splits = self.table_source.load()
            names_images = Path(next(iter(self._tables.values()))[0]).name in self.metadata
            return _with_images(splits) if names_images else splits
        if not self.members:
            return None
        splits = self.read_classes().cast_column(self.column, datasets.Image())
        return streamed(splits) if self.streaming else splits

    @cached_property
    def local_folder(self) -> Path | None:
        """As in `FolderSource`; load_dataset reads folders whose README lists the files."""
        of_format = self.path == self.format_name
        return super().local_folder if of_format or not (self.name or self.has_configs()) else None

    @cached_property
    def _tables(self) -> dict[str, list[str]]:
        metadata: dict[str, list[str]] = {}
        for path, file in self.files.items():
            if path[-1] in self.metadata:
                metadata.setdefault(next(filter(None, map(split_of, path[:-1])), ""), []).append(file)
        tables = {**self.split_tables}
        of_all, others = metadata.pop("", []), tables.pop("", [])
        if metadata or self.layout.split is not None:
            return in_order(metadata)
        if tables or (others and not self.members):
            return in_order(tables) if self.members else {}
        classes = {path[self.layout.label] for path in self.members if len(path) > self.layout.label + 1}
        if others and not of_all and len(classes) < 2:
            raise ValueError(
                f"{self.local_folder}: images must lie in a folder for each class, or be named by a metadata.csv with "
                f"the columns file_name and label, got {len(self.members):,} images beside a table. Read the table by "
                f"{options_of(others[0])} and name its columns by --data.image_column and --data.label_column"
            )
        return {"train": of_all} if of_all else {}


def _with_images(splits: Any) -> Any:
    """Splits of a metadata table with their files in the column image."""
    columns = next(iter(splits.values())).column_names
    names = {name: name.removesuffix("_file_name") for name in columns if name.endswith("_file_name")}
    if "file_name" in columns:
        names["file_name"] = ImageSource.column
    if not names:
        raise ValueError(
            "a metadata table must have a column file_name with the names of the image files, got "
            f"{', '.join(columns)}; rename the column"
        )
    return splits.rename_columns(names)
