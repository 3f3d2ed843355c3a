"""Splits and classes in the paths of files."""

import pytest

from tasks.data.folders import Layout, find_layout, split_of


@pytest.mark.parametrize(
    ("names", "layout"),
    [
        (["a/1", "b/2"], Layout(None, 0)),
        (["1", "a/1", "b/2"], Layout(None, 0)),
        (["a/x/y/1", "b/2"], Layout(None, 0)),
        (["bus/1", "car/1", "train/1"], Layout(None, 0)),
        (["bus/x/1", "car/x/1", "train/x/1"], Layout(None, 0)),
        (["dev/1", "prod/1"], Layout(None, 0)),
        (["dev/x/1", "prod/x/1"], Layout(None, 0)),
        (["train/1", "test/1"], Layout(None, 0)),
        (["train/a/1", "test/b/1"], Layout(0, 1)),
        (["train/a/1"], Layout(0, 1)),
        (["Training/a/1", "TESTING/b/1", "val/b/1"], Layout(0, 1)),
        (["train/a/1", "test/1"], Layout(0, 1)),
        (["train/a/1", "test/a/1", "holdout/a/1"], Layout(0, 1)),
        (["train_images/a/1", "test-images/a/1"], Layout(0, 1)),
        (["photos/a/1", "photos/b/1"], Layout(None, 1)),
        (["preview", "photos/a/1", "photos/b/1"], Layout(None, 1)),
        (["photos/train/a/1", "photos/test/b/1"], Layout(1, 2)),
        (["test_project/train/a/1", "test_project/test/b/1"], Layout(1, 2)),
        (["train/photos/a/1", "train/photos/b/1", "test/photos/b/1"], Layout(0, 2)),
        (["photos/1", "photos/2"], Layout(None, 0)),
        ([], Layout(None, 0)),
    ],
    ids=str,
)
def test_layouts(names: list[str], layout: Layout) -> None:
    assert find_layout([tuple(f"{name}.png".split("/")) for name in names]) == layout


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *((name, "train") for name in ("train", "Training", "train-00000-of-00002.parquet", "my_train")),
        *((name, "validation") for name in ("validation", "valid", "val", "dev", "val.csv")),
        *((name, "test") for name in ("test", "testing", "eval", "evaluation", "test 2")),
        *((name, None) for name in ("trainer", "latest", "values.csv", "")),
    ],
)
def test_names_of_splits(name: str, split: str | None) -> None:
    assert split_of(name) == split
