"""Encoders of images as configuration."""

import difflib
from typing import Any, Literal, get_args

import timm
from torch import nn

import softformer.adapters.timm  # noqa: F401  (registers the SOFT variants)
from softformer.models.vision.network import SoftVisionTransformer
from softformer.ops.options import check_choice
from softformer.training.encoders.spec import EncoderSpec
from softformer.training.specs import takes_options_of

_Soft = Literal["soft_tiny", "soft_small", "soft_medium", "soft_large", "soft_huge"]
_SoftNorm = Literal["soft_norm_tiny", "soft_norm_small", "soft_norm_medium", "soft_norm_large", "soft_norm_huge"]
SoftVariant = Literal[_Soft, _SoftNorm]


class TimmSpec(EncoderSpec):
    """Any model of timm, the SOFT variants among them.

    Args:
        name: Name of the model as `timm.list_models` prints it, or ``hf-hub:...`` or ``local-dir:...``.
        pretrained: Whether to load timm's weights.
        img_size: Height and width of the images in pixels, for models whose parameters depend on it.
        in_chans: Channels of the images.
        drop_rate: Dropout before the head.
        drop_path_rate: Stochastic depth.
    """

    def __init__(
        self,
        name: str,
        *,
        pretrained: bool = False,
        img_size: int | None = None,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        self.name = name
        self.pretrained = pretrained
        self.img_size = img_size
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.drop_path_rate = drop_path_rate

    def build(self) -> nn.Module:
        """The timm model; a ValueError if timm has no such model or no weights for it, or the model lacks an option."""
        check_timm_name(self.name)
        if self.pretrained and ":" not in self.name and not timm.is_model_pretrained(self.name):
            raise ValueError(f"pretrained=True, but timm has no weights for {self.name!r}; set pretrained to false")
        # Not every model takes these, so only those that differ from their defaults are passed.
        rates = {"drop_rate": self.drop_rate, "drop_path_rate": self.drop_path_rate}
        given: dict[str, Any] = {} if self.img_size is None else {"img_size": self.img_size}
        given |= {name: rate for name, rate in rates.items() if rate}
        try:
            return timm.create_model(self.name, pretrained=self.pretrained, in_chans=self.in_chans, **given)
        except TypeError as error:
            raise ValueError(f"the model {self.name!r} does not take one of {', '.join(given)}: {error}") from error


@takes_options_of(SoftVisionTransformer, "num_classes", "device", "dtype", optional=True)
class SoftVisionSpec(EncoderSpec):
    """A published SOFT variant, with any option of `softformer.SoftVisionTransformer` changed.

    Options left out (null) keep the value of the variant.

    Args:
        name: Published variant to start from; ``soft_norm_...`` are SOFT++.
    """

    def __init__(self, name: SoftVariant = "soft_tiny", **options: Any) -> None:
        """Remember the options; `build` checks them."""

    def build(self) -> nn.Module:
        """The network; a ValueError for an unknown variant, or options that are out of range or exclude each other."""
        options = {name: value for name, value in self.init_args.items() if value is not None}
        return timm.create_model(check_choice("name", options.pop("name"), get_args(SoftVariant)), **options)


def check_timm_name(name: str) -> None:
    """Raise a ValueError for a model or a tag that timm does not have, with the nearest names or all tags."""
    plain = name.split(".")[0]
    valid = {plain, *timm.list_models(plain, include_tags=True)} if timm.is_model(plain) else set()
    if ":" in name or name in valid:
        return
    if valid:
        raise ValueError(
            f"name must be a model of timm, got {name!r}: {plain} has no such tag. Valid: {', '.join(sorted(valid))}"
        )
    nearest = difflib.get_close_matches(plain, timm.list_models(), n=8, cutoff=0.5)
    raise ValueError(
        f"name must be a model of timm, got {name!r}."
        f" Nearest: {', '.join(nearest) or 'none'}. SOFT variants: {', '.join(timm.list_models('soft_*'))}."
        f' All: python -c "import timm; print(timm.list_models())"'
    )
