"""Training with Lightning: the base of all tasks, and the parts of a run."""

from softformer.training.checkpoints.loading import load as load
from softformer.training.encoders.sequence import SoftEncoderSpec as SoftEncoderSpec
from softformer.training.encoders.spec import EncoderSpec as EncoderSpec
from softformer.training.encoders.text import AutoModelSpec as AutoModelSpec
from softformer.training.encoders.vision import SoftVisionSpec as SoftVisionSpec
from softformer.training.encoders.vision import TimmSpec as TimmSpec
from softformer.training.module import SoftformerModule as SoftformerModule
from softformer.training.optimizer import OptimizerSpec as OptimizerSpec
from softformer.training.schedule import ScheduleSpec as ScheduleSpec
