"""Where sounds come from: anything that load_dataset reads, and folders of sound files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from tasks.audio.reading.folders import holds_sounds, read_folder
from tasks.data.sources import FILE_FORMATS, Source

FOLDER_FORMAT = "audiofolder"
_DECODER = "torchcodec"


@dataclass(frozen=True)
class SoundSource(Source):
    """A data set of sounds, in load_dataset's own words; "audiofolder", and a local folder of sounds, are read here.

    Args:
        path: As in `Source`, or a folder of sounds.
        name: As in `Source`.
        data_dir: As in `Source`; with "audiofolder", the folder of sounds.
        data_files: As in `Source`.
        streaming: As in `Source`.
        built_in: As in `Source`.
    """

    def load(self, split: str | None = None) -> Any:
        """As `Source.load`.

        Raises:
            ValueError: The arguments do not go together, or the files cannot be read.
            FileNotFoundError: There is no such data.
        """
        folder = self.folder()
        if folder is not None:
            splits = read_folder(folder)
            return splits if split is None else _slice(splits, split)
        try:
            return super().load(split)
        except ValueError as error:
            if _DECODER not in str(error):
                raise
            raise ValueError(
                f"{self}: it is a folder of sound files, which cannot be read from there. Download the folder (hf "
                f"download {self.path} --repo-type dataset --local-dir FOLDER) and give it by --data.path FOLDER"
            ) from error

    def folder(self) -> Path | None:
        """The folder of sounds; None where `datasets` reads.

        Raises:
            ValueError: An argument does not go with a folder of sounds.
            FileNotFoundError: There is no such folder.
        """
        if self.path == FOLDER_FORMAT:
            self._check_local()
            if self.data_files or not self.data_dir:
                raise ValueError(
                    f"path={FOLDER_FORMAT!r}: expected the folder of the sounds, --data.data_dir FOLDER, and no "
                    "data_files"
                )
            folder = Path(self.data_dir).expanduser()
        else:
            folder = Path(self.path).expanduser() / (self.data_dir or "")
            local = self.path not in (*FILE_FORMATS, *self.built_in) and not self.data_files and folder.is_dir()
            if not local or not holds_sounds(folder):
                return None
        extra = [argument for argument in ("name", "streaming") if getattr(self, argument)]
        if extra:
            raise ValueError(f"{self}: a folder of sounds is read as it is and takes no {', '.join(extra)}")
        return folder

    def folder_of(self, split: str) -> Path:
        """Folder that relative file names in the rows of a split are relative to; those of a folder of sounds are not.

        Args:
            split: A split, or a slice.
        """
        return Path() if self.folder() is not None else super().folder_of(split)


def _slice(splits: datasets.DatasetDict, slices: str) -> datasets.Dataset:
    """Rows by slices of splits, such as "train[:90%]+test"."""
    counts = {name: len(rows) for name, rows in splits.items()}
    parts = datasets.ReadInstruction.from_spec(slices).to_absolute(counts)
    return datasets.concatenate_datasets([splits[part.splitname].select(range(part.from_, part.to)) for part in parts])
