"""Encoders as configuration."""

from softformer.training.encoders.vision import EncoderSpec as EncoderSpec
from softformer.training.encoders.vision import SoftVisionSpec as SoftVisionSpec
from softformer.training.encoders.vision import TimmSpec as TimmSpec
