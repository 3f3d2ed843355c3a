"""Folders of images as data sets: class folders, and tables that name image files."""

import shlex
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets

from tasks.data.files import log_left_out, visible_files
from tasks.data.folders import Parts, find_layout, in_order, read_classes, relative_parts, split_of
from tasks.data.sources import FILE_FORMATS, Source, sliced, streamed
from tasks.data.tables import format_of

# Endings of the image files that are trained on and predicted.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".avif", ".tif", ".tiff"),
    *(".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico", ".psd", ".pcx", ".dds", ".qoi"),
)

_FORMAT = "imagefolder"
_COLUMN = "image"
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_TABLES = ("csv", "json", "parquet", "arrow")
# JSON files that libraries write beside data.
_DESCRIPTIONS = ("config.json", "dataset_info.json", "dataset_infos.json")


class ImageSource(Source):
    """A data set of images: a `Source` that reads local folders of images itself, with or without "imagefolder".

    - FOLDER/CLASS/FILE is the split train; FOLDER/SPLIT/CLASS/FILE is the split that SPLIT names.
    - A table metadata.csv, .jsonl or .parquet, in FOLDER or in each SPLIT, names its image files in the column
      file_name, which becomes the column image.
    - Tables that name a split, such as train.csv, are read instead of the images beside them.
    """

    def load(self, split: str | None = None) -> Any:
        """As `Source.load`."""
        if self._table is not None:
            splits = self._table.load()
            if Path(next(iter(self._tables.values()))[0]).name in _METADATA:
                splits = _with_images(splits)
        elif self._images:
            folder = str(self._folder)
            log_left_out(folder, [file for path, file in self._files.items() if path not in self._images], "image")
            splits = read_classes(folder, self._images, column=_COLUMN, kind="image")
            splits = splits.cast_column(_COLUMN, datasets.Image())
            splits = streamed(splits) if self.streaming else splits
        else:
            return super().load(split)
        return splits if split is None else sliced(splits, split)

    def folder_of(self, split: str) -> Path:
        """As `Source.folder_of`; names of files in class folders are absolute."""
        if self._table is not None:
            return self._table.folder_of(split)
        return Path() if self._images else super().folder_of(split)

    @cached_property
    def _folder(self) -> Path | None:
        """The folder, if it may be one of images."""
        if self.data_files or self.path in self.built_in:
            return None
        if self.path != _FORMAT and (self.path in FILE_FORMATS or self.name or self.has_configs()):
            return None
        folder = Path("" if self.path == _FORMAT else self.path, self.data_dir or "").expanduser()
        return folder.absolute() if folder != Path() and folder.is_dir() else None

    @cached_property
    def _files(self) -> dict[Parts, str]:
        """Files of the folder by their relative paths."""
        if self._folder is None:
            return {}
        files = sorted(visible_files(str(self._folder)))
        return dict(zip(relative_parts(str(self._folder), files), files))

    @cached_property
    def _images(self) -> dict[Parts, str]:
        return {path: file for path, file in self._files.items() if path[-1].lower().endswith(IMAGE_SUFFIXES)}

    @cached_property
    def _tables(self) -> dict[str, list[str]]:
        """Tables to read instead of class folders, by split.

        Raises:
            ValueError: A table is beside images that are not in folders of several classes.
        """
        metadata: dict[str, list[str]] = {}
        tables: dict[str, list[str]] = {}
        for path, file in self._files.items():
            if path[-1] in _METADATA:
                metadata.setdefault(next(filter(None, map(split_of, path[:-1])), ""), []).append(file)
            elif path[:-1] in ((), ("data",)) and format_of(file) in _TABLES and path[-1] not in _DESCRIPTIONS:
                tables.setdefault(split_of(path[-1]) or "", []).append(file)
        of_all, others = metadata.pop("", []), tables.pop("", [])
        layout = find_layout(list(self._images))
        if metadata or layout.split is not None:
            return in_order(metadata)
        if tables or (others and not self._images):
            return in_order(tables) if self._images else {}
        classes = {path[layout.label] for path in self._images if len(path) > layout.label + 1}
        if others and not of_all and len(classes) < 2:
            raise ValueError(
                f"{self._folder}: images must lie in a folder for each class, or be named by a metadata.csv with the "
                f"columns file_name and label, got {len(self._images):,} images beside a table. Read the table by "
                f"--data.path {format_of(others[0])} --data.data_files.train {shlex.quote(others[0])} and name its "
                "columns by --data.image_column and --data.label_column"
            )
        return {"train": of_all} if of_all else {}

    @cached_property
    def _table(self) -> Source | None:
        kinds = sorted({str(format_of(file)) for files in self._tables.values() for file in files})
        for files in self._tables.values():
            if len(kinds) > 1 or len({Path(file).parent for file in files}) > 1:
                raise ValueError(
                    f"{self}: tables must have one format, and those of a split one folder, got {', '.join(files)}; "
                    "join or convert them"
                )
        return Source(kinds[0], None, None, {**self._tables}, self.streaming, {}) if kinds else None


def _with_images(splits: Any) -> Any:
    """Splits of a metadata table with their files in the column image."""
    columns = next(iter(splits.values())).column_names
    names = {name: name.removesuffix("_file_name") for name in columns if name.endswith("_file_name")}
    if "file_name" in columns:
        names["file_name"] = _COLUMN
    if not names:
        raise ValueError(
            f"a metadata table must have a column file_name with the names of the image files, got {', '.join(columns)}"
        )
    return splits.rename_columns(names)
