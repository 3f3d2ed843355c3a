"""Audio networks: features, augmentation, windows, and heads."""

from softformer.models.audio.augment import AudioAugment as AudioAugment
from softformer.models.audio.windows import Windows as Windows
