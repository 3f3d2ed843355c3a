"""The ten published variants as timm models: ``timm.create_model("soft_tiny")`` after ``import softformer``.

Any option of `softformer.SoftVisionTransformer` can be given to `timm.create_model`. There are no pretrained weights to
download; ``checkpoint_path=`` and ``pretrained_cfg_overlay={"file": ...}`` take files of the authors' layout and of
ours.
"""

from collections.abc import Mapping
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from softformer.models.vision.network import SoftVisionTransformer, adapt_state_dict
from softformer.models.vision.published import published_cfg
from softformer.ops import inverse as inverses
from softformer.ops.inverse import Inverse, Newton

# What the normalized variants (SOFT++) compute: no ridge, their own start, and the gradient of the iterations.
_NORMALIZED: dict[str, Any] = {
    "symmetric_norm": True,
    "inverse": Newton(20, ridge=0.0, start="halving", gradient="unrolled"),
}


def checkpoint_filter_fn(state_dict: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """A checkpoint as `model` takes it: the authors' layout converted, position embeddings of other grids resized."""
    return adapt_state_dict(state_dict, model)


class RecordedSoftVisionTransformer(SoftVisionTransformer):
    """`SoftVisionTransformer` as timm builds it: its arguments can be written to config.json and read back.

    timm records the arguments of `create_model`, and `save_for_hf` writes them as JSON. An inverse is recorded as
    ``{"class_path": "Cholesky", "init_args": {"ridge": 0.01}}``, which is taken for an inverse too.
    """

    def __init__(self, *args: Any, inverse: Inverse | Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        if isinstance(inverse, Mapping):
            inverse = _read_inverse(inverse)
        if inverse is not None:
            kwargs["inverse"] = inverse
        super().__init__(*args, **kwargs)

    @property
    def _model_args(self) -> dict[str, Any]:
        return self.__dict__.get("_recorded_args", {})

    @_model_args.setter
    def _model_args(self, arguments: Mapping[str, Any]) -> None:
        self.__dict__["_recorded_args"] = {
            name: _write_inverse(value) if isinstance(value, Inverse) else value for name, value in arguments.items()
        }


def _write_inverse(inverse: Inverse) -> dict[str, Any]:
    return {"class_path": type(inverse).__name__, "init_args": inverse.init_args}


def _read_inverse(record: Mapping[str, Any]) -> Inverse:
    kinds = {kind.__name__: kind for kind in (inverses.Newton, inverses.Cholesky)}
    name = str(record.get("class_path", "")).rpartition(".")[2]
    if name not in kinds:
        raise ValueError(f"inverse must name one of {', '.join(kinds)} as its class_path, got {dict(record)!r}")
    return kinds[name](**record.get("init_args", {}))


_SIZES = ("tiny", "small", "medium", "large", "huge")
default_cfgs = generate_default_cfgs(
    {f"{family}_{size}.untrained": published_cfg() for family in ("soft", "soft_norm") for size in _SIZES}
)


def _create(
    variant: str, pretrained: bool, given: dict[str, Any], *, normalized: bool = False, **published: Any
) -> SoftVisionTransformer:
    """A variant: the published arguments, overridden by those that were given."""
    if normalized and given.get("attention", "soft") == "soft":
        published.update(_NORMALIZED)
    arguments = {**published, **given}
    stages = len(arguments.get("embed_dims", (64, 128, 320, 512)))
    return build_model_with_cfg(
        RecordedSoftVisionTransformer,
        variant,
        pretrained,
        pretrained_filter_fn=checkpoint_filter_fn,
        feature_cfg={"out_indices": tuple(range(stages)), "feature_cls": "getter"},
        **arguments,
    )


_TINY: dict[str, Any] = {"embed_dims": (64, 128, 320, 512), "depths": (1, 2, 3, 2), "num_heads": (2, 4, 10, 16)}
_SMALL: dict[str, Any] = {"embed_dims": (64, 128, 320, 512), "depths": (1, 3, 7, 4), "num_heads": (2, 4, 10, 16)}
_MEDIUM: dict[str, Any] = {"embed_dims": (64, 128, 288, 512), "depths": (1, 3, 29, 5), "num_heads": (2, 4, 9, 16)}
_LARGE: dict[str, Any] = {"embed_dims": (64, 128, 320, 512), "depths": (1, 3, 40, 5), "num_heads": (2, 4, 10, 16)}
_HUGE: dict[str, Any] = {"embed_dims": (64, 128, 352, 512), "depths": (1, 5, 49, 5), "num_heads": (2, 4, 11, 16)}


@register_model
def soft_tiny(pretrained: bool = False, **kwargs: Any) -> SoftVisionTransformer:
    """SOFT tiny, 13 M parameters."""
    return _create("soft_tiny", pretrained, kwargs, **_TINY)


@register_model
def soft_small(pretrained: bool = False, **kwargs: Any) -> SoftVisionTransformer:
    """SOFT small, 24 M parameters as in the paper; `softformer.from_published` builds the published code's 39 M."""
    return _create("soft_small", pretrained, kwargs, **_SMALL)


@register_model
def soft_medium(pretrained: bool = False, **kwargs: Any) -> SoftVisionTransformer:
    """SOFT medium, 46 M parameters."""
    return _create("soft_medium", pretrained, kwargs, **_MEDIUM)


@register_model
def soft_large(pretrained: bool = False, **kwargs: Any) -> SoftVisionTransformer:
    """SOFT large, 65 M parameters."""
    return _create("soft_large", pretrained, kwargs, **_LARGE)


@register_model
def soft_huge(pretrained: bool = False, **kwargs: Any) -> SoftVisionTransformer:
    """SOFT huge, 87 M parameters."""
    return _create("soft_huge", pretrained, kwargs, **_HUGE)


@register_model
def soft_norm_tiny(pretrained: bool = False, **kwargs: Any) -> SoftVisionTransformer:
    """SOFT++ tiny, 13 M parameters."""
    return _create("soft_norm_tiny", pretrained, kwargs, normalized=True, **_TINY)


@register_model
def soft_norm_small(pretrained: bool = False, **kwargs: Any) -> SoftVisionTransformer:
    """SOFT++ small, 24 M parameters."""
    return _create("soft_norm_small", pretrained, kwargs, normalized=True, **_SMALL)


@register_model
def soft_norm_medium(pretrained: bool = False, **kwargs: Any) -> SoftVisionTransformer:
    """SOFT++ medium, 46 M parameters."""
    return _create("soft_norm_medium", pretrained, kwargs, normalized=True, **_MEDIUM)


@register_model
def soft_norm_large(pretrained: bool = False, **kwargs: Any) -> SoftVisionTransformer:
    """SOFT++ large, 65 M parameters."""
    return _create("soft_norm_large", pretrained, kwargs, normalized=True, **_LARGE)


@register_model
def soft_norm_huge(pretrained: bool = False, **kwargs: Any) -> SoftVisionTransformer:
    """SOFT++ huge, 87 M parameters."""
    return _create("soft_norm_huge", pretrained, kwargs, normalized=True, **_HUGE)
