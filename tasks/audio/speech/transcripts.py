"""What was heard in recordings, as files: a text and subtitles for each."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tasks.audio.speech.subtitles import subtitles
from tasks.audio.speech.word_times import WordTime


class Transcript(NamedTuple):
    """What was heard in a recording, and when."""

    text: str
    words: list[WordTime]


def write_transcripts(files: Sequence[str], transcripts: Sequence[Transcript], folder: Path) -> None:
    """Write NAME.txt and NAME.srt for each recording into a folder, which is made.

    Args:
        files: Names of the recordings.
        transcripts: What was heard in them.
        folder: Where to write. Recordings of several folders are told apart by folders in it.
    """
    for name, transcript in zip(transcript_names(files), transcripts):
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        text = f"{transcript.text}\n" if transcript.text else ""
        place.with_name(f"{place.name}.txt").write_text(text, encoding="utf-8")
        place.with_name(f"{place.name}.srt").write_text(subtitles(transcript.words), encoding="utf-8")


def transcript_names(files: Sequence[str]) -> list[Path]:
    """Names without ending for the transcripts of files, below the folder that all of these lie in.

    Files that differ in their ending alone keep it.
    """
    if not files:
        return []
    paths = [Path(os.path.abspath(file)) for file in files]
    top = os.path.commonpath([path.parent for path in paths])
    relative = [path.relative_to(top) for path in dict.fromkeys(paths)]
    shared = Counter(path.with_suffix("") for path in relative)
    names = (path.relative_to(top) for path in paths)
    return [name if shared[name.with_suffix("")] > 1 else name.with_suffix("") for name in names]
