"""Encoders of texts as configuration."""

from torch import nn

from softformer.training.encoders.spec import EncoderSpec


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
        """The model as a text backbone; errors as in `softformer.adapters.huggingface.backbone.AutoBackbone`."""
        from softformer.adapters.huggingface.backbone import AutoBackbone

        return AutoBackbone(self.name_or_path, pretrained=self.pretrained)
