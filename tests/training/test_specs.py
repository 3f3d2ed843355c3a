"""Specs remember their arguments, become plain dictionaries, and come back; nothing else can be built from one."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from softformer.ops import Cholesky, Inverse, Newton
from softformer.training.encoders.vision import EncoderSpec, SoftVisionSpec, TimmSpec
from softformer.training.specs import describe


class OwnSpec(EncoderSpec):
    """A user's spec, which does nothing about its arguments."""

    def __init__(self, width: int, inverse: Inverse = Newton(3), *, names: list[str] | None = None) -> None:  # noqa: B008
        self.linear_width = width

    def build(self) -> nn.Module:
        return nn.Linear(self.linear_width, 2)


class ChildSpec(OwnSpec):
    """Passes arguments of its own making on."""

    def __init__(self, double: int = 5) -> None:
        super().__init__(width=2 * double)


@dataclasses.dataclass
class DataSpec(EncoderSpec):
    """A user's spec as a dataclass."""

    width: int = 7

    def build(self) -> nn.Module:
        return nn.Linear(self.width, 2)


SPECS = [
    TimmSpec("test_vit", img_size=32, drop_rate=0.1),
    SoftVisionSpec(inverse=Cholesky(0.3), depths=[1, 2]),
    OwnSpec(11, Cholesky(0.2), names=["a", "b"]),
    OwnSpec(width=13),
    ChildSpec(17),
    DataSpec(19),
]


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_round_trip_through_json(spec: EncoderSpec) -> None:
    again = EncoderSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert type(again) is type(spec)
    assert again.init_args == spec.init_args
    assert again == spec


def test_defaults_are_among_the_arguments() -> None:
    assert OwnSpec(11).init_args == {"width": 11, "inverse": Newton(3), "names": None}
    assert ChildSpec().init_args == {"double": 5}
    assert ChildSpec().build().in_features == 10


def test_specs_differ_by_class_and_arguments() -> None:
    assert OwnSpec(11) != OwnSpec(13)
    assert OwnSpec(11) != ChildSpec(11)
    assert repr(DataSpec(3)) == "DataSpec(width=3)"


def test_the_dictionary_is_plain() -> None:
    assert OwnSpec(11, Cholesky(0.2)).to_dict() == {
        "class_path": f"{__name__}.OwnSpec",
        "init_args": {
            "width": 11,
            "inverse": {"class_path": "softformer.Cholesky", "init_args": {"ridge": 0.2}},
            "names": None,
        },
    }
    assert describe({"path": Path("a/b"), "pair": (1, 2.5)}) == {"path": "a/b", "pair": [1, 2.5]}


@pytest.mark.parametrize("value", [np.int64(3), np.float64(0.5), np.float32(0.5), np.str_("a"), True, 3, "a"], ids=repr)
def test_values_are_of_pythons_own_types(value: object) -> None:
    described = describe(value)
    assert described == value
    assert type(described) in (bool, int, float, str)


def test_what_cannot_be_described() -> None:
    with pytest.raises(ValueError, match=r"cannot be stored as configuration: expected .* got Linear"):
        describe({"layer": nn.Linear(1, 1)})


def nested(inverse: str) -> dict[str, object]:
    init_args = {"inverse": {"class_path": inverse, "init_args": {"args": ["touch", "x"]}}}
    return {"class_path": "softformer.training.encoders.vision.SoftVisionSpec", "init_args": init_args}


@pytest.mark.parametrize(
    "description",
    [
        {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "x"]}},
        {"class_path": "torch.nn.Linear", "init_args": {"in_features": 1, "out_features": 1}},
        nested("subprocess.Popen"),
        nested("softformer.training.encoders.vision.TimmSpec"),
        {"class_path": "softformer.training.encoders.vision.TimmSpec", "init_args": {"name": "x", "nam": 1}},
        {"class_path": "softformer.training.encoders.vision.TimmSpec", "init_args": {"name": "x", "img_size": "big"}},
        {"class_path": "softformer.training.encoders.vision.NoSpec"},
    ],
)
def test_only_specs_and_their_arguments_are_built(
    description: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"does not describe a EncoderSpec"):
        EncoderSpec.from_dict(description)
    assert not list(tmp_path.iterdir())


def test_the_error_of_a_constructor_comes_through() -> None:
    description = {
        "class_path": "softformer.training.encoders.vision.SoftVisionSpec",
        "init_args": {"inverse": {"class_path": "softformer.ops.inverse.Newton", "init_args": {"iterations": 0}}},
    }
    with pytest.raises(ValueError, match=r"^iterations must be an integer of at least 1, got 0$"):
        EncoderSpec.from_dict(description)
