"""Subtitles from words with times, and their files."""

from pathlib import Path
from typing import Any

import pytest
from full_disk import largest_file

from tasks.audio.speech.subtitles import clock, subtitles
from tasks.audio.speech.transcripts import Transcript, transcript_names, write_transcripts
from tasks.audio.speech.word_times import WordTime


def evenly(text: str, each: float = 0.5, start: float = 0.0) -> list[WordTime]:
    """Words one after the other, without pauses."""
    return [
        WordTime(word, start + number * each, start + (number + 1) * each) for number, word in enumerate(text.split())
    ]


def cues(words: list[WordTime], **options: Any) -> list[tuple[str, list[str]]]:
    """Times and lines of each cue; the form of the text is checked."""
    found = []
    for number, block in enumerate(subtitles(words, **options).split("\n\n"), start=1):
        first, times, *lines = block.strip("\n").split("\n")
        assert first == str(number)
        found.append((times, lines))
    return found


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0.0, "00:00:00,000"),
        (0.0004, "00:00:00,000"),
        (1.9996, "00:00:02,000"),
        (59.9999, "00:01:00,000"),
        (3723.457, "01:02:03,457"),
        (360_001.5, "100:00:01,500"),
    ],
)
def test_clock(seconds: float, written: str) -> None:
    assert clock(seconds) == written


def test_the_text_of_a_file() -> None:
    words = [WordTime("two", 0.5, 0.75), WordTime("six", 1.0, 2.25), WordTime("zero", 3.0, 4.5)]
    assert subtitles(words) == ("1\n00:00:00,500 --> 00:00:02,250\ntwo six\n\n2\n00:00:03,000 --> 00:00:04,500\nzero\n")
    assert subtitles([]) == ""


def test_a_pause_ends_a_cue() -> None:
    words = [*evenly("a b"), *evenly("c d", start=1.5)]  # half a second of pause
    assert [lines for _, lines in cues(words, pause=0.5)] == [["a b"], ["c d"]]
    assert [lines for _, lines in cues(words, pause=0.51)] == [["a b c d"]]


def test_a_cue_lasts_so_many_seconds() -> None:
    found = cues(evenly("a b c d e f g", each=1.0), seconds=3.0)
    assert [lines for _, lines in found] == [["a b c"], ["d e f"], ["g"]]
    assert found[0][0] == "00:00:00,000 --> 00:00:03,000"
    slow = cues([WordTime("a", 0.0, 9.0), *evenly("b", start=9.0)], seconds=3.0)
    assert slow[0] == ("00:00:00,000 --> 00:00:09,000", ["a"])
    assert len(slow) == 2


def test_lines_have_so_many_characters() -> None:
    text = "the quick brown fox jumps over the lazy dog and then sleeps " * 5
    found = cues(evenly(text, each=0.1), line_length=19)
    assert " ".join(line for _, lines in found for line in lines) == text.strip()
    lines = [line for _, lines in found for line in lines]
    assert max(map(len, lines)) == 19
    assert max(len(lines) for _, lines in found) == 2
    single = cues(evenly(text, each=0.1), num_lines=1)
    assert all(len(lines) == 1 and len(lines[0]) <= 42 for _, lines in single)


def test_a_word_longer_than_a_cue() -> None:
    found = cues(evenly("a " + "x" * 47 + " b-c"), line_length=11, num_lines=3)
    assert [lines for _, lines in found] == [["a"], ["x" * 11] * 4 + ["xxx"], ["b-c"]]


def test_a_cue_can_be_read() -> None:
    short = [WordTime("a", 1.0, 1.125), WordTime("b", 5.0, 5.125), WordTime("c", 5.75, 6.0)]
    assert [times for times, _ in cues(short, pause=0.5)] == [
        "00:00:01,000 --> 00:00:02,000",
        "00:00:05,000 --> 00:00:05,750",
        "00:00:05,750 --> 00:00:06,750",
    ]


@pytest.mark.parametrize("option", ["line_length", "num_lines", "seconds", "pause"])
def test_options_are_positive(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} must be positive, got 0"):
        subtitles([], **{option: 0})


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ([], []),
        (["a/one.wav"], ["one"]),
        (["a/one.wav", "a/two.2.flac"], ["one", "two.2"]),
        (["a/one.wav", "b/one.wav"], ["a/one", "b/one"]),
        (["/data/a/one.wav", "/data/a/b/two.wav"], ["one", "b/two"]),
        (["a/one.wav", "a/one.flac", "a/two.wav"], ["one.wav", "one.flac", "two"]),
        (["a/one.wav", "a/one.wav"], ["one", "one"]),
        (["./a/one.wav", "a/../b/two.wav"], ["a/one", "b/two"]),
    ],
)
def test_names_of_transcripts(files: list[str], names: list[str]) -> None:
    assert [str(name) for name in transcript_names(files)] == names


def test_files_of_transcripts(tmp_path: Path) -> None:
    words = evenly("zwölf zero")
    transcripts = [Transcript("zwölf zero", words), Transcript("", [])]
    write_transcripts(["rec/one.2.wav", "rec/more/two.wav"], transcripts, tmp_path / "made")
    found = {str(file.relative_to(tmp_path / "made")) for file in (tmp_path / "made").rglob("*.*")}
    assert found == {"one.2.txt", "one.2.srt", "more/two.txt", "more/two.srt"}
    assert (tmp_path / "made" / "one.2.txt").read_text(encoding="utf-8") == "zwölf zero\n"
    assert (tmp_path / "made" / "one.2.srt").read_text(encoding="utf-8") == subtitles(words)
    assert (tmp_path / "made" / "more" / "two.txt").read_text() == ""


@pytest.mark.parametrize(("size", "name"), [(5, "a.txt"), (30, "a.srt")])
def test_transcripts_on_a_full_disk_name_the_file(tmp_path: Path, size: int, name: str) -> None:
    words = evenly("zero one two three")
    with largest_file(size), pytest.raises(OSError, match=f"File too large: '{tmp_path}/{name}'"):
        write_transcripts(["a.wav"], [Transcript("zero one two three", words)], tmp_path)
