"""What `predict` takes, and that Python, the trainer, and the command line predict the same."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import softformer
from PIL import Image
from tiny_images import TinyImages
from toy_rows import quiet_trainer
from training_runs import classifier, trained_checkpoint

from softformer.training.checkpoints.loading import load
from tasks.image.data import ImageDataModule
from tasks.image.processor import ImageProcessor, as_images

_PIXELS = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
_PROCESSOR = ImageProcessor((32, 32), 3, mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6])


@pytest.mark.parametrize("processor", [_PROCESSOR, ImageProcessor((9, 7), 1, mean=[0.3], std=[0.2])])
@pytest.mark.parametrize(
    "image",
    [
        _PIXELS,
        _PIXELS.transpose(2, 0, 1),
        _PIXELS / 255,
        _PIXELS.astype(np.float32) / 255,
        _PIXELS.astype(np.int64),
        torch.from_numpy(_PIXELS).permute(2, 0, 1),
        torch.from_numpy(_PIXELS).permute(2, 0, 1) / 255,
        torch.from_numpy(_PIXELS).permute(2, 0, 1).double() / 255,
        np.asarray(Image.fromarray(_PIXELS)),  # read-only
        _PIXELS[:, :, ::-1].copy()[:, :, ::-1],
        _PIXELS.astype(np.uint16),
        (_PIXELS / 255).astype(">f4"),
        torch.from_numpy(_PIXELS.astype(np.uint16)).permute(2, 0, 1),
        (torch.from_numpy(_PIXELS).permute(2, 0, 1) / 255).requires_grad_(),
    ],
    ids=[
        *("HWC", "CHW", "float64", "float32", "int64", "tensor", "float tensor", "double tensor"),
        *("read-only", "reversed", "uint16", "big endian", "uint16 tensor", "with gradient"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_one_array_is_one_image(image: Any, processor: ImageProcessor) -> None:
    assert len(as_images(image)) == 1
    expected = processor([Image.fromarray(_PIXELS)])
    torch.testing.assert_close(processor([image]), expected, rtol=0, atol=1.01 / 255 / min(processor.std))


def test_arrays_of_grayscale_images_and_of_batches() -> None:
    processor = ImageProcessor((24, 20), 1, mean=[0.0], std=[1.0])
    gray = _PIXELS[:, :, 0]
    for image in (gray, gray[:, :, None], gray[None], torch.from_numpy(gray)):
        (found,) = processor(as_images(image))
        assert found.mul(255).round().byte().numpy().tolist() == [gray.tolist()]
    several = np.stack([_PIXELS, 255 - _PIXELS])
    task = classifier(processor=TinyImages().processor)
    assert len(task.predict(_PIXELS)) == len(task.predict(_PIXELS.transpose(2, 0, 1))) == 1
    assert task.predict(several) == task.predict([_PIXELS, 255 - _PIXELS])
    assert len(task.predict(torch.from_numpy(several).permute(0, 3, 1, 2))) == 2


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (_PIXELS.astype(np.float32), r"images of type float32 must have values in \[0, 1\], got 0 to 255; divide"),
        (torch.full((3, 5, 7), -0.1), r"images of type torch.float32 must have values in \[0, 1\], got -0.1 to -0.1"),
        (np.full((5, 7), 256), r"images of type int64 must have values in \[0, 255\], got 256 to 256"),
        (np.full((5, 7, 3), np.nan), r"images of type float64 must have values in \[0, 1\], got nan to nan"),
        (np.zeros((5, 7, 2), np.uint8), r"of 1, 3, or 4 channels, got shape \(5, 7, 2\)"),
        (torch.zeros(7), r"images must be arrays .* got shape \(7,\)"),
        (torch.zeros(5, 7, 3), r"got shape \(5, 7, 3\)"),
        (np.zeros((0, 5, 3), np.uint8), r"got shape \(0, 5, 3\)"),
        (
            (2 * torch.ones(3, 5, 7)).bfloat16(),
            r"images of type torch.bfloat16 must have values in \[0, 1\], got 2 to 2",
        ),
        (np.full((5, 7), 4_000, np.uint16), r"images of type uint16 must have values in \[0, 255\], got 4000 to 4000"),
        (_PIXELS > 99, r"images must be whole numbers in \[0, 255\] or floating-point .*, got bool; convert"),
        (torch.ones(3, 5, 7, dtype=torch.bool), r"got torch.bool; convert them to uint8"),
        (_PIXELS.astype(object), r"images must be whole numbers .*, got object"),
        (_PIXELS * 1j, r"images must be whole numbers .*, got complex128"),
    ],
)
def test_invalid_arrays(image: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _PROCESSOR([image])


def _rows(table: Path) -> list[tuple[str, list[str]]]:
    with table.open(newline="") as file:
        return [(row.pop("file"), list(row.values())) for row in csv.DictReader(file)]


@pytest.mark.parametrize("batch_size", [2, 5])
def test_all_routes_predict_the_same(tmp_path: Path, batch_size: int) -> None:
    """Python, the trainer over a data module, and the command line, on files of several sizes, modes and kinds."""
    folder = tmp_path / "images"
    folder.mkdir()
    modes = ("RGB", "L", "RGBA", "P", "CMYK")
    for number, (mode, ending) in enumerate(zip(modes, ("png", "bmp", "png", "png", "jpg"))):
        pixels = np.random.default_rng(number).integers(0, 256, (19 + number, 43 - 5 * number, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / f"{number}.{ending}")
    task = load(trained_checkpoint(tmp_path))
    files = sorted(map(str, folder.iterdir()))
    expected = [
        [cell for label, share in row for cell in (label, f"{share:.6f}")] for row in task.predict(files, batch_size=3)
    ]
    assert len({tuple(row) for row in expected}) > 1
    data = ImageDataModule("unread", images=str(folder), processor=task.processor, batch_size=batch_size)
    found = quiet_trainer().predict(task, data)
    rows = sorted((row for batch in found for row in batch), key=lambda row: row["index"])
    assert [row["file"] for row in rows] == files
    assert [[row[name] for name in row if name not in ("index", "file")] for row in rows] == expected
    model = ["--ckpt_path", "one.ckpt", "--data", "ImageDataModule", "--data.path", "unread"]
    options = ["--data.images", "images", "--data.batch_size", str(batch_size), "--trainer.accelerator", "cpu"]
    outcome = softformer(tmp_path, "predict", *model, *options, "--output", "table.csv")
    assert outcome.code == 0, outcome.err
    table = _rows(tmp_path / "table.csv")
    assert [str(tmp_path / file) for file, _ in table] == files
    assert [cells for _, cells in table] == expected
