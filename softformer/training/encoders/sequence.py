"""Encoders of sequences as configuration."""

from torch import nn

from softformer.layers.positions import PositionKind
from softformer.models.sequence import SequenceAttention, SoftEncoder, SoftOptions
from softformer.training.encoders.vision import EncoderSpec


class SoftEncoderSpec(EncoderSpec):
    """A `softformer.SoftEncoder`; its options are described there.

    Args:
        dim: Model width.
        depth: Number of blocks.
        num_heads: Number of heads; divides dim.
        num_landmarks: Number of landmarks.
        attention: ``soft``, or ``softmax`` in the same encoder for comparison.
        mlp_ratio: Width of the MLPs over dim.
        dropout: Dropout rate of the input, of attention outputs and in MLPs.
        drop_path: Stochastic depth of the last block, growing from 0 in the first.
        positions: ``none``, ``sinusoidal``, ``learned`` or ``rotary``.
        gradient_checkpointing: Compute blocks again in the backward to save memory.
        soft: Options of softmax-free attention.
        max_length: Number of learned positions in tokens.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        *,
        num_landmarks: int = 64,
        attention: SequenceAttention = "soft",
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        positions: PositionKind = "sinusoidal",
        gradient_checkpointing: bool = False,
        soft: SoftOptions = SoftOptions(),  # noqa: B008  (recipes read the default here)
        max_length: int = 512,
    ) -> None:
        """Remember the options; `build` checks them."""

    def build(self) -> nn.Module:
        """The encoder.

        Raises:
            ValueError: An option is out of range, unknown, or does not go with another.
        """
        return SoftEncoder(**self.init_args)


class AutoModelSpec(EncoderSpec):
    """Any encoder of transformers, with its own token embeddings.

    Args:
        name_or_path: Model on the hub, or a local folder.
        pretrained: Whether to load its weights, or only its configuration.
    """

    def __init__(self, name_or_path: str, *, pretrained: bool = True) -> None:
        self.name_or_path = name_or_path
        self.pretrained = pretrained

    def build(self) -> nn.Module:
        """The model as a text backbone.

        Raises:
            ValueError: It is no encoder.
            OSError: There is no such model.
        """
        from softformer.adapters.huggingface.backbone import AutoBackbone

        return AutoBackbone(self.name_or_path, pretrained=self.pretrained)
