"""Images as texts of their pixels: characters, tokens, the recipe's tokenizer, errors."""

import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import yaml
from PIL import Image

from softformer.training.specs import rebuild
from tasks.data.examples import ReadError
from tasks.text import CharactersSpec, CodePointsSpec, TextDataModule, TokenizerSpec
from tasks.text.built_in import lra_image as module
from tasks.text.built_in.lra_image import lra_image
from tasks.text.tokens.tokenizers import tokenizer_settings

pytestmark = pytest.mark.usefixtures("own_cache")

NAMES = ["ant", "bee", "cat"]
PIXELS = CodePointsSpec(0x2800, 256)
RECIPE = Path(__file__).parents[4] / "recipes" / "text" / "lra_image.yaml"


def write(file: Path, images: list[Any], column: str = "img") -> None:
    features = datasets.Features({column: datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    rows = {column: images, "label": [number % 3 for number in range(len(images))]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(file)


def random_pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG") -> dict[str, Any]:
    file = io.BytesIO()
    image.save(file, kind)
    return {"bytes": file.getvalue(), "path": None}


@pytest.fixture
def arrays(tmp_path: Path) -> list[np.ndarray]:
    """The images of both splits in the folder of the test, in the column of CIFAR-10."""
    arrays = [random_pixels(3, 5, seed=number) for number in range(7)]
    for split in ("train", "test"):
        write(tmp_path / f"{split}.parquet", [Image.fromarray(array) for array in arrays])
    return arrays


def test_texts_are_the_characters_of_the_pixels(arrays: list[np.ndarray], tmp_path: Path) -> None:
    splits = lra_image(str(tmp_path))
    assert set(splits) == {"train", "test"}
    for rows in splits.values():
        assert rows.features["label"].names == NAMES
        assert rows["label"][:] == [number % 3 for number in range(7)]
        assert rows["text"][:] == ["".join(chr(0x2800 + int(value)) for value in array.ravel()) for array in arrays]


@pytest.mark.parametrize("column", ["image", "text"])
def test_files_and_columns_of_other_names(tmp_path: Path, column: str) -> None:
    write(tmp_path / "a.parquet", [Image.fromarray(random_pixels(2, 3))], column)
    splits = lra_image(data_files={"train": str(tmp_path / "a.parquet")})
    assert {name: rows.column_names for name, rows in splits.items()} == {"train": ["text", "label"]}
    assert len(splits["train"]["text"][0]) == 6


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(random_pixels(3, 5, 3)),
        Image.fromarray(random_pixels(3, 5, 4), "RGBA"),
        Image.fromarray(random_pixels(3, 5, 3)).quantize(),
    ],
    ids=lambda image: image.mode,
)
def test_color_becomes_gray(tmp_path: Path, image: Image.Image) -> None:
    write(tmp_path / "train.parquet", [image])
    (text,) = lra_image(str(tmp_path))["train"]["text"]
    assert [ord(sign) - 0x2800 for sign in text] == np.asarray(image.convert("L")).ravel().tolist()


def test_tokens_are_gray_values_and_the_recipe_has_them_all(arrays: list[np.ndarray], tmp_path: Path) -> None:
    settings = yaml.safe_load(RECIPE.read_text())["data"]["init_args"]
    recipe = rebuild(TokenizerSpec, settings["tokenizer"])  # type: ignore[type-abstract]
    assert (settings["path"], recipe) == ("lra/image", PIXELS)
    data = TextDataModule("lra/image", data_dir=str(tmp_path), tokenizer=recipe, batch_size=3, val_fraction=0.0)
    assert data.vocab_size == 5 + 256
    assert (data.class_names, data.class_counts) == (NAMES, [3, 2, 2])
    for batch in data.test_dataloader():
        for number, ids, label in zip(batch["index"], batch["ids"], batch["label"]):
            assert ids.tolist() == [2, *(5 + arrays[int(number)].ravel().astype(int)), 3]
            assert label == number % 3


def test_the_recipes_tokenizer_is_that_of_characters_of_the_first_release() -> None:
    every_value = "".join(chr(0x2800 + value) for value in range(256))
    assert tokenizer_settings(PIXELS.build([])) == tokenizer_settings(CharactersSpec().build([every_value]))


def test_images_that_cannot_be_decoded(tmp_path: Path) -> None:
    good = encoded(Image.fromarray(random_pixels(2, 3)))
    write(tmp_path / "train.parquet", [good, good, {"bytes": b"broken", "path": None}])
    with pytest.raises(ReadError, match="split 'train', row 2: the image cannot be decoded: cannot identify image"):
        lra_image(str(tmp_path))
    write(tmp_path / "train.parquet", [good, encoded(Image.fromarray(np.full((2, 3), 999, np.uint16)))])
    with pytest.raises(ReadError, match=r"row 1: the image cannot be decoded: its pixels have more than 8 bits \(mode"):
        lra_image(str(tmp_path))


def test_missing_images_are_missing_texts(tmp_path: Path) -> None:
    write(
        tmp_path / "train.parquet", [Image.fromarray(random_pixels(2, 3)), None, Image.fromarray(random_pixels(2, 3))]
    )
    options: dict[str, Any] = {"data_dir": str(tmp_path), "tokenizer": PIXELS, "val_fraction": 0.0}
    with pytest.raises(ReadError, match="split 'train', row 1: the text is missing"):
        TextDataModule("lra/image", **options).setup("fit")
    examples = TextDataModule("lra/image", on_bad_text="skip", **options).examples_for("train")
    assert (len(examples), examples.skipped) == (2, [1])  # type: ignore[union-attr, arg-type]


def test_texts_are_made_once(arrays: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = lra_image(str(tmp_path))
    monkeypatch.setattr("PIL.Image.open", None)  # cannot be called
    assert lra_image(str(tmp_path))["test"]["text"][:] == first["test"]["text"][:]
    monkeypatch.setattr(module, "_VERSION", module._VERSION + 1)
    with pytest.raises(TypeError):
        lra_image(str(tmp_path))


@pytest.mark.parametrize("columns", [{"id": [1]}, {"img": [0], "other": [0]}], ids=list)
def test_other_columns_than_one_of_images(tmp_path: Path, columns: dict[str, Any]) -> None:
    image = Image.fromarray(random_pixels(2, 3))
    kinds = {name: datasets.Value("int64") if name == "id" else datasets.Image() for name in columns}
    content = {name: [1] if name == "id" else [image] for name in columns}
    datasets.Dataset.from_dict(content, features=datasets.Features(kinds)).to_parquet(tmp_path / "train.parquet")
    count, listed = (0, "id") if "id" in columns else (2, "img, other")
    message = f"split 'train' must have one column of images, got {count} among {listed}; give files of CIFAR-10"
    with pytest.raises(ValueError, match=message):
        lra_image(str(tmp_path))


def test_data_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"path='lra/image' reads uoft-cs/cifar10 .* by --data.data_dir"):
        lra_image()
    with pytest.raises(FileNotFoundError, match="data_dir"):
        lra_image(str(tmp_path / "none"))
