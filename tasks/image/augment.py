"""Augmentation of training pictures: timm's and torchvision's, drawn from (seed, epoch, row).

Crops by padding and flips work on whole batches of uint8 pictures, fast enough that small pictures do not wait for
them; what the libraries do to single pictures runs with their generators seeded for each picture.
"""

from collections.abc import Callable, Sequence
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
from torchvision.transforms.functional import pil_to_tensor
from torchvision.transforms.v2 import TrivialAugmentWide

from softformer.training.specs import Settings
from tasks.data.batches import restored_generators, row_seeds, row_uniforms, seed_generators
from tasks.image.processor import ImageProcessor

# What the random numbers of a row are for.
_ROW, _COLUMN, _HFLIP, _VFLIP, _CROP, _POLICY, _ERASE = range(7)
_POLICIES = ("original", "originalr", "v0", "v0r", "3a")


class Augment(Settings):
    """What chance does to a training picture, in this order; nothing by default.

    Args:
        crop: "pad" adds a black border and cuts the picture's size out of it at random; "resized" cuts out a random
            part and resizes it (RandomResizedCrop); "none" is the crop of validation.
        padding: border of "pad", in pixels.
        scale: least and greatest share of the area that "resized" cuts out.
        ratio: least and greatest ratio of width to height that "resized" cuts out.
        hflip: probability of a horizontal flip.
        vflip: probability of a vertical flip.
        policy: timm's policies by timm's names ("rand-m9-mstd0.5-inc1", "augmix-m3-w3", "original", "originalr",
            "v0", "v0r", "3a"), or "trivial" for torchvision's TrivialAugment.
        color_jitter: strength of random brightness, contrast and saturation.
        erase: probability that a random rectangle is replaced by noise (random erasing).
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
                raise ValueError(f"augment.{name}: expected a probability in [0, 1], got {getattr(self, name)}")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"augment.scale: expected least and greatest share in (0, 1], got {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"augment.ratio: expected least and greatest ratio above 0, got {self.ratio}")
        if self.padding < 0 or self.color_jitter < 0:
            raise ValueError(
                f"augment.padding and augment.color_jitter: expected 0 or more, got {self.padding} and "
                f"{self.color_jitter}"
            )
        if self.policy is not None:
            _policy(self.policy, (32, 32), "bilinear", (0.5, 0.5, 0.5))


def _posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    # timm's strongest level keeps 0 bits, a black picture; newer versions of Pillow refuse to make it.
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
            f"augment.policy={name!r}: {error}; expected 'trivial', 'rand-...' (such as rand-m9-mstd0.5-inc1), "
            f"'augmix-...' (such as augmix-m3-w3), or one of {', '.join(_POLICIES)}"
        ) from error
    operations = policy.ops if hasattr(policy, "ops") else [each for part in policy.policy for each in part]
    for operation in operations:
        if operation.name.startswith("Posterize"):
            operation.aug_fn = _posterize
    return policy


class BatchAugment:
    """Augmentation of a batch; the same for the same (seed, epoch, rows), whatever was drawn before.

    Args:
        augment: what to do.
        processor: gives image_size, mean, and interpolation.
        seed: the data seed.
    """

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

    def crop(self, pictures: list[Image.Image], rows: np.ndarray, epoch: int) -> Tensor:
        """Random resized crops of pictures of any size: (B, C, H, W) uint8."""
        with restored_generators():
            crops = []
            for image, seed in zip(pictures, row_seeds(self.seed, epoch, rows, _CROP).tolist()):
                seed_generators(seed)
                crops.append(pil_to_tensor(self.resized_crop(image)))
        return torch.stack(crops)

    def distort(self, pictures: Tensor, rows: np.ndarray, epoch: int) -> Tensor:
        """Pad and crop, flip, and apply the policy: uint8 (B, C, H, W) to the same."""
        augment = self.augment

        def uniform(purpose: int) -> Tensor:
            return torch.from_numpy(row_uniforms(self.seed, epoch, rows, purpose))

        if augment.crop == "pad" and augment.padding:
            shifts = 2 * augment.padding + 1
            pictures = _cut(pictures, augment.padding, uniform(_ROW) * shifts, uniform(_COLUMN) * shifts)
        for probability, purpose, axis in ((augment.hflip, _HFLIP, -1), (augment.vflip, _VFLIP, -2)):
            if probability:
                flipped = (uniform(purpose) < probability)[:, None, None, None]
                pictures = torch.where(flipped, pictures.flip(axis), pictures)
        return self._apply_policies(pictures, rows, epoch) if self.policies else pictures

    def _apply_policies(self, pictures: Tensor, rows: np.ndarray, epoch: int) -> Tensor:
        changed = []
        with restored_generators():
            for picture, seed in zip(pictures, row_seeds(self.seed, epoch, rows, _POLICY).tolist()):
                seed_generators(seed)
                image = Image.fromarray(picture[0].numpy() if len(picture) == 1 else picture.permute(1, 2, 0).numpy())
                for policy in self.policies:
                    image = policy(image)
                changed.append(pil_to_tensor(image))
        return torch.stack(changed)

    def erase(self, pictures: Tensor, rows: np.ndarray, epoch: int) -> Tensor:
        """Replace rectangles of normalized float pictures (B, C, H, W) by noise, in place."""
        if self.augment.erase:
            with restored_generators():
                for picture, seed in zip(pictures, row_seeds(self.seed, epoch, rows, _ERASE).tolist()):
                    seed_generators(seed)
                    self.erasing(picture)
        return pictures


def _cut(pictures: Tensor, padding: int, top: Tensor, left: Tensor) -> Tensor:
    """Windows of the pictures' own size from the padded pictures, at (B,) real-valued offsets."""
    height, width = pictures.shape[-2:]
    padded = F.pad(pictures, (padding,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(len(pictures)), :, top.long(), left.long()]
