"""The README does what it says: its Python runs, its commands are those that CI runs."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^```bash\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


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
    exec(next(snippet for snippet in SNIPPETS if "LightningModule" in snippet), names)
    module = names["Classifier"]()  # type: ignore[operator]
    optimizer = module.configure_optimizers()
    batch = {"image": torch.randn(3, 3, 32, 32), "label": torch.tensor([0, 3, 7])}
    before = [parameter.clone() for parameter in module.parameters()]
    module.training_step(batch, 0).backward()
    optimizer.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, module.parameters()))


def test_links_to_files_exist() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (Path(__file__).parents[1] / target).exists(), target
