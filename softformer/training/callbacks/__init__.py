"""The callbacks that write the files of a run."""

from softformer.training.callbacks.best import BestCheckpoint as BestCheckpoint
from softformer.training.callbacks.checkpoints import LastCheckpoint as LastCheckpoint
from softformer.training.callbacks.class_report import ClassReport as ClassReport
from softformer.training.callbacks.curves import LearningCurves as LearningCurves
from softformer.training.callbacks.predictions import PredictionTable as PredictionTable
from softformer.training.callbacks.results import ResultTable as ResultTable
