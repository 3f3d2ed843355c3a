"""Mixup and cutmix: pairs of images in a batch become one, and so do their labels."""

from torch import Tensor
from torchvision.transforms import v2


def mix_batch(
    images: Tensor, labels: Tensor, *, num_classes: int, mixup: float, cutmix: float
) -> tuple[Tensor, Tensor]:
    """Mix images (B, C, H, W) with each other, and labels (B,) or (B, K) to shares (B, K) of classes.

    `mixup` and `cutmix` are parameters of Beta distributions, 0 for off; with both, each batch draws one of them.

    Source: Zhang et al. 2018 (arXiv 1710.09412) and Yun et al. 2019 (arXiv 1905.04899), as in torchvision.
    """
    methods = [
        kind(alpha=alpha, num_classes=num_classes) for kind, alpha in ((v2.MixUp, mixup), (v2.CutMix, cutmix)) if alpha
    ]
    return v2.RandomChoice(methods)(images, labels)
