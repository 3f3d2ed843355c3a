"""Files that a user names, and the names that files may have."""

import glob
import os
import re
from pathlib import Path

import pytest

from tasks.data.files import as_pattern, escaped, list_files, located, visible_files

_SUFFIXES = (".png", ".gif")


def _list(given: str | Path | list[str]) -> list[str]:
    return list_files("images", given if isinstance(given, list) else str(given), _SUFFIXES, "image")


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _touch(tmp_path / "photos [1]", "b.png", "a.GIF", "more/c.png", "more/d.txt", "notes.txt", "README")
    _touch(tmp_path / "photos [1]", ".hidden.png", "__MACOSX/a.png", ".cache/a.png")
    return tmp_path / "photos [1]"


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("", ["a.GIF", "b.png", "more/c.png"]),
        ("/*", ["a.GIF", "b.png", "more/c.png"]),
        ("/**", ["a.GIF", "b.png", "more/c.png"]),
        ("/m*", ["more/c.png"]),
        ("/*.*", ["a.GIF", "b.png"]),
        ("/more", ["more/c.png"]),
        ("/**/*.png", ["b.png", "more/c.png"]),
        ("/*.txt", ["notes.txt"]),
        ("/notes.txt", ["notes.txt"]),
        ("/.hidden.png", [".hidden.png"]),
    ],
)
def test_folders_files_and_patterns(folder: Path, pattern: str, names: list[str]) -> None:
    assert _list(f"{folder}{pattern}") == [f"{folder}/{name}" for name in names]


def test_a_list_keeps_its_order_and_repeats(folder: Path) -> None:
    given = [str(folder / "more"), str(folder / "b.png"), str(folder / "b.png")]
    assert _list(given) == [str(folder / name) for name in ("more/c.png", "b.png", "b.png")]


@pytest.mark.parametrize(
    ("pattern", "counts"),
    [("", r"3 \(2 .txt, 1 without ending\)"), ("/*", r"3 \(2 .txt, 1 without ending\)"), ("/more/*", r"1 \(1 .txt\)")],
)
def test_the_files_that_are_left_out_are_counted(
    folder: Path, pattern: str, counts: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        _list(f"{folder}{pattern}")
    assert re.search(f"images: files left out because they are no image files: {counts}", caplog.text)


def test_links_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    _touch(tmp_path, "all/a/1.png", "elsewhere/2.png", "elsewhere/x/3.png")
    (tmp_path / "all/b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "all/c").symlink_to(tmp_path / "all/a")
    (tmp_path / "elsewhere/x/back").symlink_to(tmp_path / "all")
    (tmp_path / "all/itself").symlink_to("itself")
    (tmp_path / "all/4.png").symlink_to(tmp_path / "elsewhere/2.png")
    names = ["4.png", "a/1.png", "b/2.png", "b/x/3.png", "c/1.png"]
    assert _list(tmp_path / "all") == [str(tmp_path / "all" / name) for name in names]


@pytest.mark.parametrize("name", ["run [1]", "a*", "what?", "[!x]", "plain"])
@pytest.mark.parametrize("relative", [False, True])
def test_the_part_of_a_pattern_that_exists_is_literal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, relative: bool
) -> None:
    _touch(tmp_path, f"{name}/x[2].csv", f"{name}/y.csv", "other/y.csv")
    monkeypatch.chdir(tmp_path)
    folder = name if relative else str(tmp_path / name)
    assert glob.glob(as_pattern(f"{folder}/x[2].csv")) == [f"{folder}/x[2].csv"]
    assert sorted(glob.glob(as_pattern(f"{folder}/*.csv"))) == [f"{folder}/x[2].csv", f"{folder}/y.csv"]
    assert as_pattern("[no]*/y.csv") == "[no]*/y.csv"
    assert as_pattern("x[2].csv", str(tmp_path / name)) == "x[[]2].csv"


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"\xff\xfe.png", "é.png".encode(), b"back\\slash.png"])
def test_a_name_in_any_bytes_is_found_again(tmp_path: Path, name: bytes) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text("found")
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    (found,) = _list(tmp_path)
    found.encode()
    assert located(Path(), found).read_text() == "found"
    assert located(tmp_path, Path(found).name).read_text() == "found"
    assert [escaped(file) for file in visible_files(str(tmp_path))] == [found]


def test_names_with_the_separators_of_windows(tmp_path: Path) -> None:
    _touch(tmp_path, "cats/young/1.png")
    assert located(tmp_path, r"cats\young\1.png") == tmp_path / "cats/young/1.png"
    assert located(tmp_path, r"cats\2.png") == tmp_path / r"cats\2.png"


def test_what_does_not_exist(folder: Path, tmp_path: Path) -> None:
    message = r"images must be a folder, .* image files \(.png, .gif\), got '/no/such', which does not exist"
    with pytest.raises(FileNotFoundError, match=message):
        _list("/no/such")
    with pytest.raises(FileNotFoundError, match=r"got '.*\*\.bmp', which does not exist"):
        _list([str(folder), f"{folder}/*.bmp"])
    with pytest.raises(
        ValueError, match=r"images must hold image files, ending in .png, .gif, got none in '.*more/d\*'"
    ):
        _list(f"{folder}/more/d*")
