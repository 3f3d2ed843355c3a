"""Mixup and cutmix: pairs of images in a batch become one, and so do their labels."""

from torch import Tensor
from torchvision.transforms import v2


def mix_batch(
    images: Tensor, labels: Tensor, *, num_classes: int, mixup: float, cutmix: float
) -> tuple[Tensor, Tensor]:
    """Mix a batch with itself, by one of the two methods at even odds if both are on.

    Args:
        images: (B, C, H, W).
        labels: (B,) class numbers, or (B, K) for several labels.
        num_classes: K.
        mixup: Parameter of mixup's Beta distribution; 0 for off.
        cutmix: Parameter of cutmix's Beta distribution; 0 for off.

    Returns:
        Images of the same shape, and labels (B, K) as shares.

    Source: Zhang et al. 2018 (arXiv 1710.09412) and Yun et al. 2019 (arXiv 1905.04899), as in torchvision.
    """
    methods = [
        method(alpha=alpha, num_classes=num_classes)
        for method, alpha in ((v2.MixUp, mixup), (v2.CutMix, cutmix))
        if alpha > 0
    ]
    return v2.RandomChoice(methods)(images, labels)
