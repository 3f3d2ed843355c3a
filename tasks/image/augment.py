"""Augmentation of training images by timm and torchvision, drawn from (seed, epoch, row).

Crops by padding and flips work on whole batches of uint8 images, fast enough that small images do not wait for them.
The libraries change one image at a time, with the global generators seeded for each.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from timm.data.auto_augment import augment_and_mix_transform, auto_augment_transform, rand_augment_transform
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation, str_to_pil_interp
from torch import Tensor
from torchvision.transforms import ColorJitter, InterpolationMode
from torchvision.transforms.functional import pil_to_tensor, to_pil_image
from torchvision.transforms.v2 import TrivialAugmentWide

from softformer.training.specs import Settings
from tasks.data.batches import restored_generators, row_seeds, row_uniforms, seed_generators
from tasks.image.processor import ImageProcessor

# Purposes of the random numbers of a row.
_ROW, _COLUMN, _HFLIP, _VFLIP, _CROP, _POLICY, _ERASE = range(7)
_POLICIES = ("original", "originalr", "v0", "v0r", "3a")


class Augment(Settings):
    """Random augmentation of training images, in this order; none by default.

    Args:
        crop: "pad" adds a black border and crops the image's size at random; "resized" crops a random part and resizes
            it (RandomResizedCrop); "none" is the crop of validation.
        padding: border of "pad", in pixels.
        scale: minimum and maximum share of the area that "resized" crops.
        ratio: minimum and maximum ratio of width to height that "resized" crops.
        hflip: probability of a horizontal flip.
        vflip: probability of a vertical flip.
        policy: a policy by its name in timm ("rand-m9-mstd0.5-inc1", "augmix-m3-w3", "original", "originalr", "v0",
            "v0r", "3a"), or "trivial" for torchvision's TrivialAugment.
        color_jitter: strength of random brightness, contrast, and saturation.
        erase: probability that noise replaces a random rectangle (random erasing).
    """

    def __init__(
        self,
        crop: Literal["none", "pad", "resized"] = "none",
        padding: int = 4,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (0.75, 4 / 3),
        hflip: float = 0.0,
        vflip: float = 0.0,
        policy: str | None = None,
        color_jitter: float = 0.0,
        erase: float = 0.0,
    ) -> None:
        self.crop = crop
        self.padding = padding
        self.scale = scale
        self.ratio = ratio
        self.hflip = hflip
        self.vflip = vflip
        self.policy = policy
        self.color_jitter = color_jitter
        self.erase = erase
        for name in ("hflip", "vflip", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augment.{name} must be a probability in [0, 1], got {getattr(self, name)}")
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"augment.scale must be a minimum and a maximum share in (0, 1], got {scale}")
        if not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f"augment.ratio must be a minimum and a maximum ratio above 0, got {ratio}")
        if padding < 0 or color_jitter < 0:
            raise ValueError(
                f"augment.padding and augment.color_jitter must be 0 or more, got {padding} and {color_jitter}"
            )
        if policy is not None:
            _policy(policy, (32, 32), "bilinear", (0.5, 0.5, 0.5))


def _posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    # At its strongest level timm asks for 0 bits, a black image, which newer versions of Pillow refuse.
    return image.point(lambda _value: 0) if bits < 1 else ImageOps.posterize(image, min(bits, 8))


def _policy(name: str, size: tuple[int, int], interpolation: str, mean: Sequence[float]) -> Callable[[Any], Any]:
    if name == "trivial":
        return TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR)
    options = {
        "translate_const": int(min(size) * 0.45),
        "img_mean": tuple(min(255, round(255 * value)) for value in mean),
        "interpolation": str_to_pil_interp(interpolation),
    }
    try:
        if name.startswith("rand"):
            policy = rand_augment_transform(name, options)
        elif name.startswith("augmix"):
            policy = augment_and_mix_transform(name, {**options, "translate_pct": 0.3})
        elif name.partition("-")[0] in _POLICIES:
            policy = auto_augment_transform(name, options)
        else:
            raise ValueError("no such policy")
    except (AssertionError, ValueError, KeyError) as error:
        raise ValueError(
            f"augment.policy must be 'trivial', 'rand-...' (such as rand-m9-mstd0.5-inc1), 'augmix-...' (such as "
            f"augmix-m3-w3), or one of {', '.join(_POLICIES)}, got {name!r}: {error}"
        ) from error
    for operation in policy.ops if hasattr(policy, "ops") else [each for part in policy.policy for each in part]:
        if operation.name.startswith("Posterize"):
            operation.aug_fn = _posterize
    return policy


class BatchAugment:
    """Augmentation of a batch of images of a processor; it depends on (seed, epoch, row numbers) alone."""

    def __init__(self, augment: Augment, processor: ImageProcessor, seed: int) -> None:
        self.augment = augment
        self.seed = seed
        size, interpolation = processor.image_size, processor.interpolation
        self.resized_crop = RandomResizedCropAndInterpolation(
            size, scale=augment.scale, ratio=augment.ratio, interpolation=interpolation
        )
        self.policies: list[Callable[[Any], Any]] = []
        if augment.policy is not None:
            self.policies.append(_policy(augment.policy, size, interpolation, processor.mean))
        if augment.color_jitter:
            self.policies.append(ColorJitter(*(augment.color_jitter,) * 3))
        self.erasing = RandomErasing(augment.erase, mode="pixel", device="cpu")

    def crop(self, images: Sequence[Image.Image], rows: np.ndarray, epoch: int) -> Tensor:
        """Random resized crops of images of any size: (B, C, H, W) uint8."""
        return torch.stack(
            self._each(lambda image: pil_to_tensor(self.resized_crop(image)), images, rows, epoch, _CROP)
        )

    def distort(self, images: Tensor, rows: np.ndarray, epoch: int) -> Tensor:
        """Pad and crop, flip, and apply the policy: uint8 (B, C, H, W) to the same."""
        augment = self.augment

        def uniform(purpose: int) -> Tensor:
            return torch.from_numpy(row_uniforms(self.seed, epoch, rows, purpose))

        if augment.crop == "pad" and augment.padding:
            top, left = ((uniform(purpose) * (2 * augment.padding + 1)).long() for purpose in (_ROW, _COLUMN))
            height, width = images.shape[-2:]
            windows = F.pad(images, (augment.padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
            images = windows[torch.arange(len(images)), :, top, left]
        for probability, purpose, axis in ((augment.hflip, _HFLIP, -1), (augment.vflip, _VFLIP, -2)):
            if probability:
                flipped = (uniform(purpose) < probability)[:, None, None, None]
                images = torch.where(flipped, images.flip(axis), images)
        if self.policies:
            images = torch.stack(self._each(self._apply_policies, images, rows, epoch, _POLICY))
        return images

    def _apply_policies(self, image: Tensor) -> Tensor:
        changed = to_pil_image(image)
        for policy in self.policies:
            changed = policy(changed)
        return pil_to_tensor(changed)

    def erase(self, images: Tensor, rows: np.ndarray, epoch: int) -> Tensor:
        """Replace rectangles of normalized float images (B, C, H, W) by noise, in place."""
        if self.augment.erase:
            self._each(self.erasing, images, rows, epoch, _ERASE)
        return images

    def _each(
        self, change: Callable[[Any], Tensor], images: Iterable[Any], rows: np.ndarray, epoch: int, purpose: int
    ) -> list[Tensor]:
        """The changed images, with the global generators seeded for each."""
        changed = []
        with restored_generators():
            for image, seed in zip(images, row_seeds(self.seed, epoch, rows, purpose).tolist()):
                seed_generators(seed)
                changed.append(change(image))
        return changed
