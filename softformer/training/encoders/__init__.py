"""Encoders as configuration: descriptions of networks, which keep recipes and checkpoints plain."""

from softformer.training.encoders.sequence import SoftEncoderSpec as SoftEncoderSpec
from softformer.training.encoders.spec import EncoderSpec as EncoderSpec
from softformer.training.encoders.text import AutoModelSpec as AutoModelSpec
from softformer.training.encoders.vision import SoftVisionSpec as SoftVisionSpec
from softformer.training.encoders.vision import TimmSpec as TimmSpec
