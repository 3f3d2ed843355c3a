"""Image tasks: classification, and the data module that feeds it."""

from tasks.image.classifier import ImageClassifier as ImageClassifier
from tasks.image.data import ImageDataModule as ImageDataModule
from tasks.image.processor import ImageProcessor as ImageProcessor
