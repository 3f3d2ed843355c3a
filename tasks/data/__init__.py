"""What data modules of all domains share: sources, splits, labels, batches, loaders, streams, cache, and files."""

from tasks.data.module import TaskDataModule as TaskDataModule
