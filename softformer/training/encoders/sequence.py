"""Encoders of sequences as configuration."""

from typing import Any

from torch import nn

from softformer.models.sequence import SoftEncoder
from softformer.training.encoders.spec import EncoderSpec
from softformer.training.specs import takes_options_of


@takes_options_of(SoftEncoder, "device", "dtype")
class SoftEncoderSpec(EncoderSpec):
    """A `softformer.SoftEncoder`, with its options."""

    def __init__(self, dim: int, depth: int, num_heads: int, **options: Any) -> None:
        """Remember the options; `build` checks them."""

    def build(self) -> nn.Module:
        """The encoder; a ValueError for options that are out of range or exclude each other."""
        return SoftEncoder(**self.init_args)
