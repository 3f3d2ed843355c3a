"""Starting weights: every layout that is taken, what is reported, and what is refused."""

from argparse import Namespace
from pathlib import Path

import pytest
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from safetensors.torch import save_file
from torch import Tensor, nn
from training_runs import SOFT, classifier, trained_checkpoint

from softformer.models.vision.published_keys import published_shapes
from softformer.training.checkpoints.weights import load_weights


def small(classes: int = 5) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, classes))


def filled(value: float, classes: int = 5) -> dict[str, Tensor]:
    return {name: torch.full_like(tensor, value) for name, tensor in small(classes).state_dict().items()}


def test_all_layouts_of_plain_tensors(tmp_path: Path) -> None:
    state = filled(2.0)
    torch.save(state, tmp_path / "plain.pth")
    torch.save({"model": state, "epoch": 3}, tmp_path / "model.pt")
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "ddp.pth")
    torch.save({"state_dict": {f"network.{name}": value for name, value in state.items()}}, tmp_path / "ours.ckpt")
    script = {"model_ema": {f"module.{name}": value for name, value in state.items()}, "args": Namespace(lr=0.1)}
    torch.save(script, tmp_path / "average.pth")
    torch.save({"model": state, "state_dict_ema": filled(3.0)}, tmp_path / "both.pth")
    save_file(state, tmp_path / "plain.safetensors")
    (tmp_path / "folder").mkdir()
    save_file(state, tmp_path / "folder" / "model.safetensors")
    plain = ("plain.pth", "model.pt", "ddp.pth", "ours.ckpt", "average.pth", "both.pth", "plain.safetensors", "folder")
    for name in plain:
        network = small()
        report = load_weights(network, tmp_path / name)
        assert len(report.loaded) == 9
        assert not report.reshaped + report.missing + report.unexpected
        assert all((value == 2).all() for value in network.state_dict().values()), name


def test_what_does_not_fit_keeps_its_start_and_is_named(tmp_path: Path) -> None:
    state = filled(2.0, classes=11)
    del state["0.bias"]
    state["extra.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "other.pth")
    network = small()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    report = load_weights(network, tmp_path / "other.pth")
    assert report.reshaped == ["2.weight (11, 2) for (5, 2)", "2.bias (11,) for (5,)"]
    assert report.missing == ["0.bias"]
    assert report.unexpected == ["extra.weight"]
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]) == (name not in report.loaded)
    text = str(report)
    assert f"weights: 6 of 9 tensors loaded from {tmp_path / 'other.pth'}" in text
    assert "loaded: 0.weight (1), 1.weight (1), 1.bias (1)" in text
    assert "not loaded, of another shape: 2.weight (11, 2) for (5, 2)" in text
    assert "not loaded, not in the file: 0.bias" in text
    assert "not loaded, not in the network: extra.weight" in text


def test_published_layout_and_other_grids(tmp_path: Path) -> None:
    network = SOFT.build()
    published = {
        "embed_dims": [6, 8, 10, 12],
        "num_heads": [1, 1, 1, 1],
        "depths": [1, 1, 1, 1],
        "stem_width": 3,
        "stem_stride": 4,
        "drop_rate": None,
    }
    network = type(SOFT)(**{**SOFT.init_args, **published, "img_size": 64}).build()  # type: ignore[arg-type]
    shapes = published_shapes({name: tuple(value.shape) for name, value in network.state_dict().items()})
    torch.save({"model": {name: torch.rand(shape) for name, shape in shapes.items()}}, tmp_path / "published.pth")
    report = load_weights(network, tmp_path / "published.pth")
    assert not report.reshaped + report.missing + report.unexpected
    larger = type(SOFT)(**{**SOFT.init_args, **published, "img_size": 128}).build()  # type: ignore[arg-type]
    assert not load_weights(larger, tmp_path / "published.pth").reshaped


def test_a_task_prints_what_it_started_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = trained_checkpoint(tmp_path, SOFT)
    capsys.readouterr()
    task = classifier(SOFT, weights=str(checkpoint), num_classes=11)
    assert "not loaded, of another shape: head.weight (7, 10) for (11, 10)" in capsys.readouterr().out
    assert task.weight_report is not None
    stored = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert torch.equal(task.network.stem.conv1.weight, stored["network.stem.conv1.weight"])


def test_only_the_first_process_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = trained_checkpoint(tmp_path, SOFT)
    capsys.readouterr()
    monkeypatch.setattr(rank_zero_only, "rank", 1)  # as the environment of a second process says
    classifier(SOFT, weights=str(checkpoint))
    assert not capsys.readouterr().out


def test_a_network_and_its_file_without_remainder(tmp_path: Path) -> None:
    state = filled(2.0)
    torch.save(state, tmp_path / "whole.pth")
    load_weights(small(), tmp_path / "whole.pth").check_complete("test")
    torch.save({**state, "3.weight": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(
        ValueError, match=r"test needs all .* and no others, but .*more.pth holds 1 that .* it: 3.weight"
    ):
        load_weights(small(), tmp_path / "more.pth").check_complete("test")
    del state["0.bias"]
    torch.save(state, tmp_path / "less.pth")
    with pytest.raises(
        ValueError, match=r"less.pth does not give 3 of them: 2.weight \(5, 2\) .*, 0.bias. The file is"
    ):
        load_weights(small(7), tmp_path / "less.pth").check_complete("test")


class Payload:
    """Would run code if it were unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, ("executed",)


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Payload()}, "evil.pth")
    torch.save({"epoch": 3}, "empty.pth")
    torch.save({"other.weight": torch.zeros(1)}, "alien.pth")
    Path("broken.pth").write_bytes(b"\x80no archive")
    Path("broken.safetensors").write_bytes(b"no archive")
    Path("folder").mkdir()
    for name in ("evil.pth", "broken.pth", "broken.safetensors"):
        with pytest.raises(ValueError, match=rf"{name} is not a readable file of weights"):
            load_weights(nn.Linear(2, 3), name)
    assert not Path("executed").exists()
    with pytest.raises(ValueError, match=r"empty.pth holds no tensors by name"):
        load_weights(nn.Linear(2, 3), "empty.pth")
    with pytest.raises(FileNotFoundError, match=r"there is no file of weights at none.pth"):
        load_weights(nn.Linear(2, 3), "none.pth")
    with pytest.raises(FileNotFoundError, match=r"the folder folder has none of model.safetensors, pytorch_model.bin"):
        load_weights(nn.Linear(2, 3), "folder")
    torch.save(nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(7)).state_dict(), "counter.pth")
    with pytest.raises(ValueError, match=r"none of the 7 tensors in counter.pth fits the network"):
        load_weights(small(), "counter.pth")
    with pytest.raises(ValueError, match=r"none of the 1 tensors in alien.pth fits the network: it expects .*0.weight"):
        load_weights(small(), "alien.pth")
