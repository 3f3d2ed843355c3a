"""Specs remember their arguments, become plain dictionaries, and come back; nothing else can be built from one."""

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn

import tasks.audio
import tasks.image
import tasks.text
from softformer.models.audio.features import LogMel
from softformer.models.sequence import SoftEncoder, SoftOptions
from softformer.models.vision.network import SoftVisionTransformer
from softformer.ops import Cholesky, Inverse, Newton
from softformer.ops.options import Options
from softformer.training.encoders import EncoderSpec, SoftEncoderSpec, SoftVisionSpec, TimmSpec
from softformer.training.optimizer import OptimizerSpec
from softformer.training.schedule import ScheduleSpec
from softformer.training.specs import Settings, describe
from tasks.command.run import RunSettings
from tasks.data.loaders import Loading
from tasks.image.augment import Augment
from tasks.image.transforms import Preprocess


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
    return {"class_path": "softformer.training.SoftVisionSpec", "init_args": init_args}


@pytest.mark.parametrize(
    "description",
    [
        {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "x"]}},
        {"class_path": "torch.nn.Linear", "init_args": {"in_features": 1, "out_features": 1}},
        nested("subprocess.Popen"),
        nested("softformer.training.TimmSpec"),
        {"class_path": "softformer.training.TimmSpec", "init_args": {"name": "x", "nam": 1}},
        {"class_path": "softformer.training.TimmSpec", "init_args": {"name": "x", "img_size": "big"}},
        {"class_path": "softformer.training.NoSpec"},
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
        "class_path": "softformer.training.SoftVisionSpec",
        "init_args": {"inverse": {"class_path": "softformer.ops.inverse.Newton", "init_args": {"iterations": 0}}},
    }
    with pytest.raises(ValueError, match=r"^iterations must be an integer of at least 1, got 0$"):
        EncoderSpec.from_dict(description)


SETTINGS: list[Settings] = [
    OptimizerSpec("sgd", lr=0.25, momentum=0.5),
    ScheduleSpec("linear", warmup=0.25),
    Preprocess(mean=[0.5], crop_mode="squash"),
    Augment("pad", scale=(0.25, 0.5), policy="trivial"),
    Loading(shuffle_buffer=7),
    RunSettings("name", overwrite=True),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: type(settings).__name__)
@pytest.mark.parametrize("with_class_path", [False, True])
def test_settings_are_their_arguments_and_a_class_path_is_accepted(settings: Settings, with_class_path: bool) -> None:
    plain = json.loads(json.dumps(describe(settings)))
    assert set(plain) == set(inspect.signature(type(settings)).parameters)
    path = f"{type(settings).__module__}.{type(settings).__name__}"
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--it", type=type(settings), default=type(settings)())
    given = {"it": {"class_path": path, "init_args": plain} if with_class_path else plain}
    assert parser.instantiate(parser.parse_object(given)).it == settings
    assert parser.instantiate(parser.parse_args([])).it == type(settings)()
    assert set(json.loads(parser.dump(parser.parse_object(given), format="json", skip_unset=False))["it"]) == set(plain)


def test_the_help_lists_each_setting() -> None:
    parser = ArgumentParser()
    parser.add_argument("--it", type=OptimizerSpec, default=OptimizerSpec(lr=0.25))
    text = parser.format_help()
    assert all(f"--it.{name}" in text for name in inspect.signature(OptimizerSpec).parameters)
    assert "0.25" in text


@pytest.mark.parametrize(
    ("given", "inverse"),
    [
        ({"inverse": "Cholesky"}, Cholesky()),
        ({"inverse": "Newton"}, Newton()),
        ({"inverse": {"class_path": "softformer.Newton", "init_args": {"iterations": 3}}}, Newton(3)),
        ({"class_path": "softformer.SoftOptions", "init_args": {"inverse": "Newton"}}, Newton()),
    ],
)
def test_a_class_that_leaves_a_choice_is_the_one_that_was_named(given: dict[str, Any], inverse: Inverse) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--it", type=SoftOptions)
    built = parser.instantiate(parser.parse_object({"it": given})).it
    assert built == SoftOptions(inverse=inverse)
    assert (type(built.inverse), built.inverse.init_args) == (type(inverse), inverse.init_args)


def classes_of(annotation: Any) -> list[type]:
    return [annotation] if inspect.isclass(annotation) else [c for arg in get_args(annotation) for c in classes_of(arg)]


def public(base: type) -> list[type]:
    packages = (tasks.audio, tasks.image, tasks.text)
    members = [member for package in packages for member in vars(package).values()]
    return [member for member in members if inspect.isclass(member) and issubclass(member, base)]


@pytest.mark.parametrize(
    "kind", [*public(LightningModule), *public(LightningDataModule)], ids=lambda kind: kind.__name__
)
def test_all_configuration_is_of_one_kind(kind: type) -> None:
    signatures = [
        inspect.signature(base.__init__) for base in kind.__mro__
    ]  # data modules hand arguments to their base
    annotations = [parameter.annotation for signature in signatures for parameter in signature.parameters.values()]
    own = [
        c for annotation in annotations for c in classes_of(annotation) if c.__module__.startswith(("softf", "tasks"))
    ]
    assert own
    for option in own:
        assert issubclass(option, Options)
        assert not dataclasses.is_dataclass(option)


def test_equal_arguments_have_equal_hashes() -> None:
    assert Newton(ridge=1) == Newton(ridge=1.0)
    assert len({Newton(ridge=1), Newton(ridge=1.0), Newton(ridge=2.0)}) == 2
    assert len({SoftVisionSpec(depths=[1, 2]), SoftVisionSpec(depths=[1, 2])}) == 1


DESCRIBED = [(SoftVisionSpec, SoftVisionTransformer), (SoftEncoderSpec, SoftEncoder), (tasks.audio.FeatureSpec, LogMel)]


@pytest.mark.parametrize(("spec", "described"), DESCRIBED, ids=lambda kind: kind.__name__)
def test_a_spec_has_the_options_of_what_it_describes(
    spec: type, described: type, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = inspect.signature(spec).parameters, inspect.signature(described).parameters
    assert set(theirs) - set(ours) <= {"device", "dtype", "num_classes", "sample_rate"}
    assert set(ours) - set(theirs) <= {"name"}
    for name in set(ours) & set(theirs):
        assert ours[name].annotation == theirs[name].annotation
        assert ours[name].default in (theirs[name].default, None)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(spec, "it")
    with pytest.raises(SystemExit):
        parser.parse_args([f"--it.help={spec.__name__}"])
    text = " ".join(capsys.readouterr().out.split())
    for name in ours:
        first = spec.__doc__.split(f"\n    {name}: ")[1].split("\n")[0][:40]  # type: ignore[union-attr]
        assert f"--it.{name} " in text
        assert first in text


def test_the_options_of_a_spec_are_checked() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'num_landmark'"):
        SoftEncoderSpec(6, 1, 2, num_landmark=3)
    for options, named in (
        ({"dephts": [1]}, "dephts"),
        ({"depths": ["x"]}, "depths"),
        ({"stem_stride": 3}, "stem_stride"),
    ):
        with pytest.raises(ValueError, match=named):
            EncoderSpec.from_dict({"class_path": "softformer.training.SoftVisionSpec", "init_args": options})
    assert SoftEncoderSpec(6, 1, 2).init_args["soft"] == SoftOptions()
    assert SoftVisionSpec().init_args["depths"] is None
