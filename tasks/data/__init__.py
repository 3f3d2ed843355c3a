"""The base of the data modules: sources, splits, labels, batches, loaders, streams, cache, and files."""

from tasks.data.module import TaskDataModule as TaskDataModule
