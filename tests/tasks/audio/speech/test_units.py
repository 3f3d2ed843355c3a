"""Units: learned from transcripts, to and from plain values."""

import json
from pathlib import Path
from typing import Any

import pytest

from softformer.training.specs import rebuild
from tasks.audio.speech.units import BLANK, BpeUnits, CharacterUnits, FileUnits, Units, UnitsSpec, units_from

TEXTS = ["the cat sat on the mat", "the mat", "ünder the mat it's 中"]
SPECS = [CharacterUnits(), BpeUnits(vocab_size=31)]


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_texts_to_numbers_and_back(spec: UnitsSpec) -> None:
    units = spec.build(TEXTS)
    assert units.table[BLANK] == ""
    assert len(set(units.table)) == units.size
    for text in [*TEXTS, "m", "a", "mmm on", ""]:
        ids = units.encode(text)
        assert units.decode(ids) == text
        assert "".join(units.table[number] for number in ids).strip() == text
        assert all(0 < number < units.size for number in ids)
    assert units.decode([BLANK, *units.encode("cat"), BLANK]) == "cat"


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_characters_that_units_lack_are_listed(spec: UnitsSpec) -> None:
    units = spec.build(TEXTS)
    assert units.lacking("the mat") == []
    assert units.lacking("quiz the\tZoo") == ["\t", "Z", "q", "u", "z"]
    with pytest.raises(ValueError, match=r"the text has characters that the units lack: '\\t', 'Z', 'q', 'u', 'z'$"):
        units.encode("quiz the\tZoo")
    assert units.lacking("\N{LOWER ONE EIGHTH BLOCK}") == ["\N{LOWER ONE EIGHTH BLOCK}"]


def test_characters_are_in_their_order() -> None:
    units = CharacterUnits().build(["cab a", "bé"])
    assert units.table == ["", " ", "a", "b", "c", "é"]
    assert units.encode("a béc") == [2, 1, 3, 5, 4]
    assert units.decode([1, 2, 1, 1, 3, 1]) == "a b"


def test_frequent_sequences_become_units() -> None:
    units = BpeUnits(vocab_size=31).build(TEXTS)
    alphabet = {" ", *"".join(TEXTS)}
    assert alphabet <= set(units.table)
    assert 1 + len(alphabet) < units.size <= 31
    assert " the" in units.table
    # A space is only at the beginning of a unit, and each word is encoded separately.
    assert not any(" " in piece[1:] for piece in units.table)
    assert units.encode("the mat sat") == [*units.encode("the"), *units.encode("mat"), *units.encode("sat")]
    assert BpeUnits(vocab_size=31).build(TEXTS).table == units.table  # learning repeats
    assert BpeUnits(vocab_size=97, min_frequency=99).build(TEXTS).size == 1 + len(alphabet)


def test_transcripts_that_come_one_by_one() -> None:
    for spec in SPECS:
        assert spec.build(text for text in TEXTS).table == spec.build(TEXTS).table


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_plain_values_make_the_units_again(spec: UnitsSpec) -> None:
    units = spec.build(TEXTS)
    settings = json.loads(json.dumps(units.settings))
    again = units_from(settings)
    assert again.table == units.table
    assert again.encode(TEXTS[2]) == units.encode(TEXTS[2])
    assert again.settings == settings
    assert units_from(dict(reversed(settings.items()))) is again
    assert rebuild(UnitsSpec, spec.to_dict()) == spec  # type: ignore[type-abstract]


def test_the_other_units_by_name() -> None:
    described = {"class_path": "BpeUnits", "init_args": {"vocab_size": 97, "min_frequency": 3}}
    assert rebuild(UnitsSpec, described) == BpeUnits(97, 3)  # type: ignore[type-abstract]
    assert rebuild(UnitsSpec, {"class_path": "CharacterUnits"}) == CharacterUnits()  # type: ignore[type-abstract]
    assert rebuild(UnitsSpec, {"class_path": "FileUnits", "init_args": {"path": "a"}}) == FileUnits("a")  # type: ignore[type-abstract]


@pytest.mark.parametrize(
    "settings", [{}, {"kind": "words"}, {"kind": "characters"}, {"kind": "bpe", "characters": "ab"}, ["ab"]]
)
def test_settings_that_describe_no_units(settings: Any) -> None:
    with pytest.raises(ValueError, match="units must be settings of the kind 'characters' with 'characters', or of"):
        units_from(settings)


def _written(units: Units, folder: Path) -> Path:
    (folder / "units.json").write_text(json.dumps(units.settings))
    return folder / "units.json"


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_units_of_another_run(spec: UnitsSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    units = spec.build(TEXTS)
    file = _written(units, tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (str(file), str(tmp_path), "~/units.json"):
        assert FileUnits(path).build(["other transcripts"]).table == units.table
    assert not FileUnits.learns
    assert spec.learns


def test_a_file_without_units(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"units.path must be the units.json of a run.*; there is no file '.*units.json'"
    ):
        FileUnits(str(tmp_path)).build([])
    for content in ("[", '{"kind": "words"}'):
        (tmp_path / "units.json").write_text(content)
        with pytest.raises(ValueError, match=r"units.path must be the units.json .* got '.*', a file without"):
            FileUnits(str(tmp_path)).build([])
    (tmp_path / "units.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"units.path must be the units.json .* got '.*', a file without"):
        FileUnits(str(tmp_path)).build([])


def test_no_characters_at_all() -> None:
    for spec in SPECS:
        with pytest.raises(ValueError, match="the transcripts of the training split must have characters; check"):
            spec.build(["", ""])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 1}, r"units.vocab_size must be at least 2 \(the blank and a character\), got 1"),
        ({"min_frequency": 0}, r"units.min_frequency must be at least 1 \(times that a pair occurs\), got 0"),
    ],
)
def test_options_out_of_range(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BpeUnits(**options)


def test_fewer_units_than_characters() -> None:
    assert BpeUnits(vocab_size=5).build(["ab", "c"]).size == 5
    with pytest.raises(ValueError, match=r"units.vocab_size must be at least 5, for the blank, the space, and"):
        BpeUnits(vocab_size=4).build(["ab", "c"])


def test_the_replacement_of_a_space_is_rejected() -> None:
    with pytest.raises(
        ValueError, match=r"units: transcripts must not contain the character '▁' \(U\+2581\), which replaces"
    ):
        BpeUnits().build(["ab", "a▁b"])
    assert CharacterUnits().build(["a▁b"]).lacking("▁") == []
