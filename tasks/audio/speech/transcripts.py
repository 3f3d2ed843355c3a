"""Hypotheses of recordings, and their files: text and subtitles."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from softformer.training.run.folder import naming
from tasks.audio.speech.subtitles import subtitles
from tasks.audio.speech.word_times import WordTime


class Transcript(NamedTuple):
    """The hypothesis of a recording, and its words with times."""

    text: str
    words: list[WordTime]


def write_transcripts(files: Sequence[str], transcripts: Sequence[Transcript], folder: Path) -> None:
    """Write NAME.txt and NAME.srt of each recording into a folder, in the folders of the recordings if these differ."""
    for name, transcript in zip(transcript_names(files), transcripts):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        text = f"{transcript.text}\n" if transcript.text else ""
        for ending, content in (("txt", text), ("srt", subtitles(transcript.words))):
            path = file.with_name(f"{file.name}.{ending}")
            with naming(path):
                path.write_text(content, encoding="utf-8")


def transcript_names(files: Sequence[str]) -> list[Path]:
    """Names of files without their endings, relative to the folder that contains all files.

    Files that differ only in their endings keep them.
    """
    if not files:
        return []
    paths = [Path(os.path.abspath(file)) for file in files]
    top = os.path.commonpath([path.parent for path in paths])
    relative = [path.relative_to(top) for path in dict.fromkeys(paths)]
    counts = Counter(path.with_suffix("") for path in relative)
    names = (path.relative_to(top) for path in paths)
    return [name if counts[name.with_suffix("")] > 1 else name.with_suffix("") for name in names]
