"""The data module that all tasks share: rows, splits, seeds, samplers and workers over Hugging Face `datasets`.

A domain's module names the columns it needs, reads a row as an example, and collates examples to a batch.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import datasets
import numpy as np
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch.utils.data import DataLoader

from softformer.training.specs import describe
from tasks.data.examples import Batch, Examples, OnBad, Split
from tasks.data.length_batches import RowCosts
from tasks.data.loaders import DEFAULT_LOADING, Loading, eval_loader, rank_and_world, train_loader
from tasks.data.sources import VALIDATION_NAMES, DataFiles, Source, choose_split, split_parts
from tasks.data.splits import validation_part
from tasks.data.streams import StreamExamples
from tasks.processor import Processor

E = TypeVar("E", bound=Examples)
Role = Literal["train", "validation", "test", "predict"]


class TaskDataModule(LightningDataModule, ABC):
    """Base of the data modules: anything that `datasets.load_dataset` reads, prepared or streamed.

    Training batches follow from (seed, epoch) and the augmentation of a row from (seed, epoch, row), so an interrupted
    run resumes exactly, also within an epoch, with any number of workers. Every rank gets the same number of batches;
    evaluation reads every row once.

    Args:
        path: Hub name, local folder, format of local files (parquet, csv, json, imagefolder, ...), or built-in name.
        name: Configuration of the data set.
        data_dir: Folder of the files.
        data_files: Files, or files by split.
        streaming: Read while training, without a prepared copy; needs the trainer's max_steps.
        train_split: Split to train on; slices such as "train[:90%]" are possible.
        val_split: Split to validate on. By default the one called validation (valid, val, dev), or else a part of
            the training split.
        test_split: Split to test on.
        val_fraction: Share of the training split that validates where there is no validation split; 0 for none.
        batch_size: Rows in a batch on one device.
        num_workers: Processes that read data; 0 reads in the main process.
        seed: Seed of the order, the augmentation, and the validation part.
        on_bad: "error" stops at an unreadable row and names it; "skip" leaves such rows out and counts them.
        loading: Options of workers and shuffling.
        processor: Processor of a trained task, which the data follows. By default the data makes its own.
    """

    built_in: ClassVar[Mapping[str, Callable[..., datasets.DatasetDict]]] = {}
    source_class: ClassVar[type[Source]] = Source
    # Whether cells of CSV files stay as they are written; if not, columns of numbers become numbers.
    csv_as_text: ClassVar[bool] = False
    # The domain's name of the argument on_bad, for messages.
    on_bad_argument: ClassVar[str] = "on_bad"

    def __init__(
        self,
        path: str,
        *,
        name: str | None = None,
        data_dir: str | None = None,
        data_files: DataFiles | None = None,
        streaming: bool = False,
        train_split: str = "train",
        val_split: str | None = None,
        test_split: str = "test",
        val_fraction: float = 0.1,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
        on_bad: OnBad = "error",
        loading: Loading = DEFAULT_LOADING,
        processor: Processor | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False, ignore=["processor"])  # a checkpoint stores that of its task
        # Plain values of the arguments of this class, from which a checkpoint can build the module again.
        taken = arguments_of(type(self)) - ({"on_bad"} - {self.on_bad_argument})
        for key, value in dict(self.hparams).items():
            self.hparams[key] = describe(value)
            if key[0] != "_" and key not in taken:
                del self.hparams[key]
        for argument, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
            if value < least:
                raise ValueError(f"{argument} must be at least {least}, got {value}")
        if not 0 <= val_fraction < 1:
            raise ValueError(f"val_fraction must be a share of the training rows in [0, 1), got {val_fraction}")
        if on_bad not in ("error", "skip"):
            raise ValueError(f"{self.on_bad_argument} must be 'error' or 'skip', got {on_bad!r}")
        self.source = self.source_class(path, name, data_dir, data_files, streaming, self.built_in, self.csv_as_text)
        self.train_split = train_split
        self.val_split = val_split
        self.test_split = test_split
        self.val_fraction = val_fraction
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.on_bad = on_bad
        self.loading = loading
        self.given_processor: Any = processor
        self._examples: dict[Role, Examples | StreamExamples] = {}

    # Provided by a domain.

    @property
    @abstractmethod
    def processor(self) -> Any:
        """The processor of the inputs: the given one, or one made from the data."""

    @abstractmethod
    def columns(self) -> dict[str, str]:
        """The needed columns by the names of the arguments that choose them."""

    @abstractmethod
    def prepare_rows(self, rows: Any) -> Any:
        """A split (prepared or streamed) with its columns cast as the reader needs them."""

    @abstractmethod
    def reader(self, role: Role) -> Callable[[dict[str, Any]], Any]:
        """A function of a row that returns an example. It is picklable and draws no random numbers."""

    @abstractmethod
    def collator(self, role: Role) -> Callable[[list[Any], np.ndarray, int], Batch]:
        """A picklable function of (examples, their row numbers, epoch) that returns a batch."""

    def classes_of(self, split: Split) -> np.ndarray | None:
        """Check the labels of a split; its (N,) class numbers, None where rows have no single class."""
        return None

    def row_costs(self, examples: Examples | StreamExamples) -> RowCosts | None:
        """Costs of the rows, where these decide the batches; None for batches of equally many rows."""
        return None

    def write_run_files(self, folder: Path) -> None:
        """Write the files of the data into the folder of a training run; none by default."""
        return

    @property
    def remedy(self) -> str:
        """The remedy of an unreadable row, for messages."""
        return f"Repair or remove it, or skip and count such rows by --data.{self.on_bad_argument} skip"

    def map_examples(self, role: Role, split: Split) -> Examples:
        """The examples of a prepared split."""
        examples = Examples(split, self.reader(role), self.collator(role), on_bad=self.on_bad, remedy=self.remedy)
        return self.readable(role, examples)

    def readable(self, role: Role, examples: E) -> E:
        """The examples; in an evaluation with "skip", after all are read once and unreadable ones are left out."""
        if role != "train" and self.on_bad == "skip":
            examples.remove_unreadable(max(1, self.num_workers))
        return examples

    # Rows and splits.

    @cached_property
    def splits(self) -> Mapping[str, Any]:
        """All splits of the data set, by name."""
        return self.source.load()

    @cached_property
    def features(self) -> dict[str, Any]:
        """Column types by column name; inferred from the first rows where a stream has none."""
        names = [part for part in split_parts(self.train_split) if part in self.splits] or list(self.splits)
        rows = self.splits[names[0]]
        if rows.features is not None:
            return dict(rows.features)
        return dict(datasets.Dataset.from_list(list(rows.take(32))).features)

    def validation_split(self) -> str | None:
        """Name of the split to validate on; None if a part of the training split validates."""
        if self.val_split is not None:
            return self.val_split
        return next((name for name in VALIDATION_NAMES if name in self.splits), None)

    def _choice(self, role: Role) -> tuple[str, str | None]:
        return {
            "train": ("train_split", self.train_split),
            "validation": ("val_split", self.validation_split()),
            "test": ("test_split", self.test_split),
        }[role]

    def _rows(self, argument: str, name: str) -> Any:
        rows = choose_split(self.source, self.splits, argument, name)
        self._check_columns(rows.features if rows.features is not None else self.features, name)
        if not self.source.streaming and len(rows) == 0:
            raise ValueError(f"{argument}={name!r}: the split has no rows ({self.source})")
        return self.prepare_rows(rows.select_columns(list(dict.fromkeys(self.columns().values()))))

    def _check_columns(self, features: Mapping[str, Any], split: str) -> None:
        for argument, column in self.columns().items():
            if column not in features:
                raise ValueError(
                    f"{argument}={column!r}: split {split!r} has no such column; it has: {', '.join(features)}"
                )

    def _whole(self, argument: str, name: str) -> Split:
        rows = self._rows(argument, name)
        return Split(f"split {name!r}", rows, np.arange(len(rows)))

    @cached_property
    def _divided(self) -> dict[Role, Split]:
        whole = self._whole("train_split", self.train_split)
        classes = self.classes_of(whole)
        train, validation = validation_part(len(whole), self.val_fraction, self.seed, classes)
        rank_zero_info(
            f"No validation split: {len(validation):,} of the {len(whole):,} rows of {whole.name} validate "
            f"(val_fraction {self.val_fraction}, seed {self.seed})"
        )
        return {
            "train": Split(f"training part of {whole.name}", whole.rows.select(train), train),
            "validation": Split(f"validation part of {whole.name}", whole.rows.select(validation), validation),
        }

    def split_for(self, role: Role) -> Split:
        """The checked rows of a role: a ValueError for an unknown split or column, no rows, or wrong labels."""
        if role != "test" and self.validation_split() is None and self.val_fraction:
            return self._divided[role]
        argument, name = self._choice(role)
        split = self._whole(argument, name or "")
        self.classes_of(split)
        return split

    def examples_for(self, role: Role) -> Examples | StreamExamples:
        """The examples of a role, made on first use."""
        if role not in self._examples:
            streaming = self.source.streaming
            self._examples[role] = self._stream(role) if streaming else self.map_examples(role, self.split_for(role))
        return self._examples[role]

    def _stream(self, role: Role) -> StreamExamples:
        argument, name = self._choice(role)
        if name is None:
            raise ValueError(
                f"val_split: a streamed data set cannot be divided, and it has no validation split among "
                f"{', '.join(self.splits)}. Name one by val_split, or set val_fraction to 0 to train without"
            )
        rank, world = rank_and_world(self.trainer)
        return StreamExamples(
            f"split {name!r}",
            self._rows(argument, name),
            self.reader(role),
            self.collator(role),
            batch_size=self.batch_size,
            on_bad=self.on_bad,
            remedy=self.remedy,
            rank=rank,
            num_replicas=world,
            shuffle=(self.seed, self.loading.shuffle_buffer) if role == "train" else None,
            full_batches=role == "train",
            endless=role == "train" and world > 1,
        )

    @property
    def skipped(self) -> dict[str, int]:
        """Number of unreadable rows that this process skipped so far, by role."""
        return {
            role: examples.num_skipped if isinstance(examples, StreamExamples) else len(examples.skipped)
            for role, examples in self._examples.items()
        }

    # Lightning's hooks.

    def prepare_data(self) -> None:
        """Download and prepare the data on one process for the cache of all; nothing in predictions."""
        if self.trainer is None or not self.trainer.predicting:
            self.splits  # noqa: B018

    def setup(self, stage: str | None = None) -> None:
        """Read and check the splits of a stage, so that mistakes show before the first step."""
        fit: tuple[Role, ...] = ("train", "validation")
        roles: dict[Any, tuple[Role, ...]] = {"fit": fit, "validate": ("validation",), "test": ("test",)}
        for role in roles.get(stage, ()):
            if role != "validation" or self._validates():
                self.examples_for(role)

    def teardown(self, stage: str | None = None) -> None:
        """Log the number of skipped rows."""
        for role, count in self.skipped.items():
            if count:
                rank_zero_info(f"unreadable rows that were skipped: {count} of {role}")

    def _validates(self) -> bool:
        return bool(self.val_fraction) or self.validation_split() is not None

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches to train on, beginning where an interrupted run stopped."""
        examples, options = self.examples_for("train"), self._loader_options()
        costs, size = self.row_costs(examples), self.batch_size
        return train_loader(examples, self.trainer, batch_size=size, seed=self.seed, costs=costs, **options)

    def val_dataloader(self) -> DataLoader[Any] | list[DataLoader[Any]]:
        """Batches to validate on; none without a validation split and with `val_fraction` 0."""
        return self._eval_loader("validation") if self._validates() else []

    def test_dataloader(self) -> DataLoader[Any]:
        """Batches to test on."""
        return self._eval_loader("test")

    def _eval_loader(self, role: Role) -> DataLoader[Any]:
        examples, options = self.examples_for(role), self._loader_options()
        costs = self.row_costs(examples)
        return eval_loader(examples, self.trainer, batch_size=self.batch_size, costs=costs, **options)

    def _loader_options(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            "persistent_workers": self.loading.persistent_workers and self.num_workers > 0,
            "pin_memory": self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
        }


def arguments_of(kind: type) -> set[str]:
    """Names of the arguments of a class, with those that it passes to its bases as ``**kwargs``."""
    found: set[str] = set()
    for base in kind.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters
            found.update(parameters)
            if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters.values()):
                break
    return found
