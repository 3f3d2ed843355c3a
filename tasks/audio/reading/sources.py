"""Data sets of recordings: what `datasets` reads, and local folders of audio files."""

from functools import cached_property
from pathlib import Path
from typing import Any

from tasks.audio.reading.folders import AudioFolder
from tasks.data.sources import FILE_FORMATS, Source, sliced
from tasks.data.tables import format_of

FOLDER_FORMAT = "audiofolder"
_DECODER = "torchcodec"


class AudioSource(Source):
    """A data set of recordings: a `Source` that reads local folders of audio files itself, as "audiofolder" or not.

    Of the tables of such a folder, metadata.csv comes first, then those that name a split, such as train.csv, and then
    the folders of classes.
    """

    def load(self, split: str | None = None) -> Any:
        """As `Source.load`."""
        if self.folder is None and self._tables is None:
            try:
                return super().load(split)
            except ValueError as error:
                if _DECODER not in str(error):
                    raise
                raise ValueError(
                    f"{self}: audio files must be in a local folder. Download them (hf download {self.path} "
                    "--repo-type dataset --local-dir FOLDER) and give the folder by --data.path FOLDER"
                ) from error
        source = self.folder or self._tables
        assert source is not None
        splits = source.read() if isinstance(source, AudioFolder) else source.load()
        return splits if split is None else sliced(splits, split)

    def folder_of(self, split: str) -> Path:
        """As `Source.folder_of`; names of files in folders of audio files are absolute."""
        if self._tables is not None:
            return self._tables.folder_of(split)
        return super().folder_of(split) if self.folder is None else Path()

    @cached_property
    def folder(self) -> AudioFolder | None:
        """The folder, if it is one of class folders or of metadata.csv.

        Raises:
            ValueError: An argument does not suit such a folder.
            FileNotFoundError: There is no such folder.
        """
        contents = self._contents
        if contents is None or self._tables is not None:
            return None
        if self.path != FOLDER_FORMAT and not (
            contents.has_table or (contents.recordings and not contents.split_tables)
        ):
            return None
        if extra := [argument for argument in ("name", "streaming") if getattr(self, argument)]:
            raise ValueError(f"{self} is a folder of audio files, which takes no {', '.join(extra)}; leave these out")
        return contents

    @cached_property
    def _contents(self) -> AudioFolder | None:
        if self.path == FOLDER_FORMAT:
            self._check_local()
            if self.data_files or not self.data_dir:
                raise ValueError(
                    f"path={FOLDER_FORMAT!r} must come with the folder of the audio files, --data.data_dir FOLDER, and "
                    "without data_files"
                )
            return AudioFolder(Path(self.data_dir))
        folder = Path(self.path).expanduser() / (self.data_dir or "")
        local = self.path not in (*FILE_FORMATS, *self.built_in) and not self.data_files and folder.is_dir()
        return AudioFolder(folder) if local else None

    @cached_property
    def _tables(self) -> Source | None:
        """Tables that are read in place of the audio files of the folder."""
        contents = self._contents
        if contents is None or self.path == FOLDER_FORMAT or not (contents.split_tables and contents.recordings):
            return None
        kinds = {str(format_of(file)) for files in contents.split_tables.values() for file in files}
        if contents.has_table and not kinds & {"parquet", "arrow"}:
            return None
        if len(kinds) > 1:
            tables = ", ".join(file for files in contents.split_tables.values() for file in files)
            raise ValueError(
                f"{self}: tables in a folder of audio files must have one format, got {tables}; convert them"
            )
        return Source(kinds.pop(), None, None, {**contents.split_tables}, self.streaming, {})
