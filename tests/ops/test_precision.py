"""Full precision is a setting of all threads: it holds as long as any block, and comes back after the last."""

import threading
from collections.abc import Iterator

import pytest
import torch

from softformer.ops.precision import full_precision

SETTINGS = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)


def precisions() -> list[str]:
    return [setting.fp32_precision for setting in SETTINGS]


@pytest.fixture
def reduced() -> Iterator[list[str]]:
    """Settings of a program that trades precision for speed."""
    before = precisions()
    for setting in SETTINGS:
        setting.fp32_precision = "tf32"
    yield ["tf32", "tf32"]
    for setting, precision in zip(SETTINGS, before):
        setting.fp32_precision = precision


def test_a_block_restores_the_settings(reduced: list[str]) -> None:
    with full_precision("cpu"):
        with full_precision("cpu"):
            assert precisions() == ["ieee", "ieee"]
        assert precisions() == ["ieee", "ieee"]
    assert precisions() == reduced


def test_a_block_that_fails_restores_the_settings(reduced: list[str]) -> None:
    with pytest.raises(RuntimeError, match="inside"), full_precision("cpu"):
        raise RuntimeError("inside")
    assert precisions() == reduced


def test_autocast_is_off_inside_a_block() -> None:
    x = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16), full_precision("cpu"):
        assert (x @ x).dtype == torch.float32


@pytest.mark.parametrize("first_ends_first", [False, True])
def test_blocks_of_two_threads(reduced: list[str], first_ends_first: bool) -> None:
    begun, end = threading.Event(), threading.Event()
    seen: list[list[str]] = []

    def block() -> None:
        with full_precision("cpu"):
            begun.set()
            end.wait(10)
            seen.append(precisions())

    first = full_precision("cpu")
    first.__enter__()
    thread = threading.Thread(target=block)
    thread.start()
    begun.wait(10)
    if first_ends_first:
        first.__exit__(None, None, None)
        assert precisions() == ["ieee", "ieee"]
    end.set()
    thread.join()
    if not first_ends_first:
        assert precisions() == ["ieee", "ieee"]
        first.__exit__(None, None, None)
    assert seen == [["ieee", "ieee"]]
    assert precisions() == reduced
