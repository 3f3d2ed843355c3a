"""A classifier from an encoder: its own head where it has one, else a linear layer on its features."""

from typing import Any

from torch import Tensor, nn


class HeadedEncoder(nn.Module):
    """An encoder from (B, C, H, W) to (B, num_features), with that attribute, and a linear layer."""

    def __init__(self, encoder: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.num_features, num_classes)  # type: ignore[arg-type]
        self.num_classes = num_classes

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
        features = self.encoder(x)
        expected = (x.shape[0], self.head.in_features)
        if not isinstance(features, Tensor) or features.shape != expected:
            got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ValueError(f"{type(self.encoder).__name__} must return features of shape {expected}, got {got}")
        return self.head(features)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that the encoder exempts from weight decay."""
        return {f"encoder.{name}" for name in getattr(self.encoder, "no_weight_decay", set)()}


def with_head(network: Any, num_classes: int | None) -> tuple[nn.Module, nn.Module]:
    """The network with a head of `num_classes` classes, and the head; None for the classes that the network has.

    The network has timm's ``reset_classifier`` and ``get_classifier``, or else ``num_features``.
    """
    if num_classes is not None and num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}")
    if hasattr(network, "reset_classifier"):
        if num_classes is not None and network.num_classes != num_classes:
            network.reset_classifier(num_classes)
        if not network.num_classes:
            raise ValueError(f"num_classes must be given: {type(network).__name__} has no classes of its own")
        head = network.get_classifier()
        return network, nn.ModuleList(head) if isinstance(head, tuple) else head
    if not isinstance(getattr(network, "num_features", None), int):
        raise ValueError(
            f"{type(network).__name__} cannot be an image encoder: it needs timm's reset_classifier, or an integer"
            " num_features and a forward from (B, C, H, W) to (B, num_features)"
        )
    if num_classes is None:
        raise ValueError(f"num_classes must be given: {type(network).__name__} has no head of its own")
    headed = HeadedEncoder(network, num_classes)
    return headed, headed.head


def input_channels(network: nn.Module) -> int | None:
    """Number of channels of the images that a network takes. None if unknown."""
    inner = _encoder(network)
    first = (getattr(inner, "pretrained_cfg", None) or {}).get("first_conv")
    name = first[0] if isinstance(first, tuple | list) and first else first
    modules = dict(inner.named_modules())
    if isinstance(name, str) and isinstance(modules.get(name), nn.Conv2d):
        return modules[name].in_channels
    channels = getattr(inner, "in_chans", None)
    return channels if isinstance(channels, int) else None


def only_size(network: nn.Module) -> tuple[int, int] | None:
    """Height and width of images, if the network takes a single size; None if it takes others or this is unknown."""
    patches = getattr(_encoder(network), "patch_embed", None)
    if not getattr(patches, "strict_img_size", False) or getattr(patches, "dynamic_img_pad", False):
        return None
    size = getattr(patches, "img_size", None)
    return (size[0], size[1]) if size is not None else None


def _encoder(network: nn.Module) -> nn.Module:
    return network.encoder if isinstance(network, HeadedEncoder) else network
