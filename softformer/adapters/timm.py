"""The ten published variants as timm models: ``timm.create_model("soft_tiny")`` after ``import softformer``.

Any option of `softformer.SoftVisionTransformer` can be given to `timm.create_model`. There are no pretrained weights to
download; ``checkpoint_path=`` and ``pretrained_cfg_overlay={"file": ...}`` take files of the authors' layout and of
ours.
"""

from collections.abc import Mapping
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

from softformer.models.vision.network import SoftVisionTransformer, adapt_state_dict
from softformer.models.vision.published import published_cfg
from softformer.ops import inverse as inverses
from softformer.ops.inverse import Inverse, Newton

# The published SOFT++: no ridge, its own start of Newton's iterations, and their gradient.
_NORMALIZED: dict[str, Any] = {
    "symmetric_norm": True,
    "inverse": Newton(20, ridge=0.0, start="halving", gradient="unrolled"),
}


# The name that timm's models have for it.
checkpoint_filter_fn = adapt_state_dict


class RecordedSoftVisionTransformer(SoftVisionTransformer):
    """`SoftVisionTransformer` as timm builds it: its arguments can be written to config.json and read back.

    timm records the arguments of `create_model`, and `save_for_hf` writes them as JSON. An inverse is recorded as
    ``{"class_path": "Cholesky", "init_args": {"ridge": 0.01}}``, and accepted in this form.
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


# Of each size: parameters in millions, and channels, blocks, and heads of the stages. The small size is that of the
# paper; `softformer.from_published` also builds that of the published code, with 39 M parameters.
_SIZES = {
    "tiny": (13, (64, 128, 320, 512), (1, 2, 3, 2), (2, 4, 10, 16)),
    "small": (24, (64, 128, 320, 512), (1, 3, 7, 4), (2, 4, 10, 16)),
    "medium": (46, (64, 128, 288, 512), (1, 3, 29, 5), (2, 4, 9, 16)),
    "large": (65, (64, 128, 320, 512), (1, 3, 40, 5), (2, 4, 10, 16)),
    "huge": (87, (64, 128, 352, 512), (1, 5, 49, 5), (2, 4, 11, 16)),
}
_FAMILIES = {"soft": "SOFT", "soft_norm": "SOFT++"}
default_cfgs = generate_default_cfgs(
    {f"{family}_{size}.untrained": published_cfg() for family in _FAMILIES for size in _SIZES}
)


def _register(family: str, size: str) -> None:
    """Register a variant of timm's models."""
    name, (millions, embed_dims, depths, num_heads) = f"{family}_{size}", _SIZES[size]

    def create(pretrained: bool = False, **kwargs: Any) -> SoftVisionTransformer:
        arguments: dict[str, Any] = {"embed_dims": embed_dims, "depths": depths, "num_heads": num_heads}
        if family == "soft_norm" and kwargs.get("attention", "soft") == "soft":
            arguments.update(_NORMALIZED)
        arguments.update(kwargs)
        return build_model_with_cfg(
            RecordedSoftVisionTransformer,
            name,
            pretrained,
            pretrained_filter_fn=checkpoint_filter_fn,
            feature_cfg={"out_indices": tuple(range(len(arguments["embed_dims"]))), "feature_cls": "getter"},
            **arguments,
        )

    create.__name__ = create.__qualname__ = name  # timm registers it under this name
    create.__doc__ = f"{_FAMILIES[family]} {size}, {millions} M parameters."
    globals()[name] = register_model(create)


for _family in _FAMILIES:
    for _size in _SIZES:
        _register(_family, _size)
