"""Values that are made once."""

from pathlib import Path
from typing import Any

import datasets
import pytest

from tasks.data.cache import cache_file, cached

pytestmark = pytest.mark.usefixtures("own_cache")


def test_a_value_is_made_once_for_a_key() -> None:
    made: list[Any] = []

    def make() -> Any:
        made.append(None)
        return {"Ü": [len(made), None, 0.5]}

    for _ in range(2):
        assert cached("thing", ["key", 1], make) == {"Ü": [1, None, 0.5]}
    assert cached("thing", ["key", 2], make)["Ü"][0] == 2
    assert cached("other", ["key", 1], make)["Ü"][0] == 3


def test_a_maker_that_fails_leaves_nothing() -> None:
    def fail() -> Any:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cached("thing", "key", fail)
    assert cached("thing", "key", lambda: 7) == 7


def test_files_lie_in_the_cache_of_datasets() -> None:
    file = cache_file("thing", {"a": [1]}, ".arrow")
    assert file.parent == Path(datasets.config.HF_DATASETS_CACHE) / "softformer"
    assert file.parent.is_dir()
    assert (file.name[:6], file.suffix) == ("thing-", ".arrow")
