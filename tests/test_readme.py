"""The README does what it says: its Python runs, its commands are those that CI runs."""

import re
from pathlib import Path

import numpy as np
import pytest
from command_line import softformer

README = (Path(__file__).parents[1] / "README.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
RECIPES = re.findall(r"^```yaml\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^```bash\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
# For a run to be short.
QUICK = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippets_run(number: int) -> None:
    exec(compile(SNIPPETS[number], f"README.md, Python block {number + 1}", "exec"), {"__name__": "readme"})


def test_there_are_snippets_and_two_commands() -> None:
    assert len(SNIPPETS) >= 3
    first, second = COMMANDS
    assert "python3 -m venv" in first
    assert "pip install -e ." in first
    assert "softformer fit --config image/digits" in first
    assert "pytest" in second


def test_the_module_of_the_readme_trains_a_step() -> None:
    import torch

    names: dict[str, object] = {"__name__": "readme"}
    exec(next(snippet for snippet in SNIPPETS if "class Classifier" in snippet), names)
    module = names["Classifier"]()  # type: ignore[operator]
    optimizer = module.configure_optimizers()
    batch = {"image": torch.randn(3, 3, 32, 32), "label": torch.tensor([0, 3, 7])}
    before = [parameter.clone() for parameter in module.parameters()]
    module.training_step(batch, 0).backward()
    optimizer.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, module.parameters()))


def test_the_sequence_module_of_the_readme_trains_a_step() -> None:
    import torch

    snippet = next(snippet for snippet in SNIPPETS if "SequenceClassifier" in snippet)
    body = snippet.partition("super().__init__()")[2].partition("def configure_optimizers")[0]
    assert len([line for line in body.splitlines() if line.strip()]) <= 12
    names: dict[str, object] = {"__name__": "readme"}
    exec(snippet, names)
    module = names["SequenceClassifier"]()  # type: ignore[operator]
    optimizer = module.configure_optimizers()
    mask = torch.arange(13) < torch.tensor([[13], [5], [1]])
    batch = {"tokens": torch.randn(3, 13, 64), "mask": mask, "label": torch.tensor([0, 3, 7])}
    before = [parameter.clone() for parameter in module.parameters()]
    module.training_step(batch, 0).backward()
    optimizer.step()
    changed = [not torch.equal(old, new) for old, new in zip(before, module.parameters())]
    assert sum(changed) > 0.8 * len(changed)  # the bias of queries cancels in differences of points


@pytest.mark.usefixtures("own_cache")
def test_the_recipe_of_texts_trains(tmp_path: Path) -> None:
    (recipe,) = (recipe for recipe in RECIPES if "TextClassifier" in recipe)
    (tmp_path / "reviews.yaml").write_text(recipe)
    rows = ("a good film,glad\n", "a bad film,sad\n")
    for split, count in (("train", 13), ("test", 2)):
        (tmp_path / f"{split}.csv").write_text("review,mood\n" + "".join(rows[number % 2] for number in range(count)))
    outcome = softformer(tmp_path, "fit", "--config", "reviews.yaml", *QUICK, "--run.test_after_fit", "true")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "runs" / "reviews" / "checkpoints" / "best.ckpt").is_file()


@pytest.mark.usefixtures("own_cache")
def test_the_recipe_of_sounds_trains(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    (recipe,) = (recipe for recipe in RECIPES if "AudioClassifier" in recipe)
    (tmp_path / "sounds.yaml").write_text(recipe)
    random = np.random.default_rng(0)
    for number in range(16):
        file = tmp_path / "sounds" / ("test" if number < 4 else "train") / "ab"[number % 2] / f"{number}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, 0.1 * random.standard_normal(9_001), 16_000)
    outcome = softformer(tmp_path, "fit", "--config", "sounds.yaml", *QUICK, "--run.test_after_fit", "true")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "runs" / "sounds" / "confusion_matrix_test.png").is_file()


@pytest.mark.usefixtures("own_cache")
def test_the_recipe_of_speech_trains(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    (recipe,) = (recipe for recipe in RECIPES if "SpeechRecognizer" in recipe)
    (tmp_path / "speech.yaml").write_text(recipe)
    folder = tmp_path / "recordings"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(13):
        soundfile.write(folder / f"{number}.flac", 0.1 * random.standard_normal(16_000), 16_000)
    lines = [f"{number}.flac,A word!\n" for number in range(13)]
    (folder / "metadata.csv").write_text("file_name,text\n" + "".join(lines))
    outcome = softformer(tmp_path, "fit", "--config", "speech.yaml", *QUICK)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "runs" / "speech" / "checkpoints" / "best.ckpt").is_file()


def test_links_to_files_exist() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (Path(__file__).parents[1] / target).exists(), target
