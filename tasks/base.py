"""The base of all tasks: a task stores its processor, and compares it with the processor of its data."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from softformer.models.checkpoint_keys import PROCESSOR_KEY
from softformer.training.checkpoints.content import processor_description
from softformer.training.module import SoftformerModule
from softformer.training.specs import describe
from tasks.data.labels import shortened
from tasks.processor import Processor

P = TypeVar("P", bound=Processor)


class Task(SoftformerModule, Generic[P]):
    """Base of the tasks. A task on the command line is given the processor of its data; a checkpoint stores it.

    Attributes:
        processor: Processor of raw inputs; None in a task that was built without one and has not run with data.
    """

    processor: P | None = None

    def keep_processor(self, processor: P | None) -> None:
        """Set the processor, also as a hyperparameter where the class takes it as an argument."""
        self.processor = processor
        if "processor" in self.hparams:
            self.hparams["processor"] = processor

    def known_processor(self) -> P | None:
        """The processor of the task, by default that of its starting weights."""
        if self.processor is None and self.weight_report is not None and self.weight_report.processor is not None:
            stored: Any = Processor.from_dict(self.weight_report.processor)
            if self.accepts(stored):
                self.keep_processor(stored)
        return self.processor

    def accepts(self, processor: Processor) -> bool:
        """Whether the task can use a processor that is stored with its starting weights; always, here."""
        return True

    def needed_processor(self) -> P:
        """The processor; a ValueError if the task has none."""
        if (processor := self.known_processor()) is None:
            raise ValueError(
                f"{type(self).__name__} must have a processor to prepare raw inputs, got None; load the task with "
                "softformer.load(checkpoint), or build it with processor=data.processor"
            )
        return processor

    # Agreement with the data.

    @property
    def data(self) -> Any:
        """The data module of the run, or None."""
        return getattr(self.trainer, "datamodule", None)

    @property
    def trains(self) -> bool:
        """Whether the task is in training."""
        return self._trainer is not None and self.trainer.state.fn == "fit"

    def on_fit_start(self) -> None:
        """Compare the processors of task and data before the first step."""
        super().on_fit_start()
        self.meet(self.data)

    def on_validation_start(self) -> None:
        """Compare the processors of task and data in an evaluation."""
        if not self.trains:
            self.meet(self.data)

    on_test_start = on_validation_start

    def meet(self, data: Any) -> None:
        """Compare the processors of task and data, a ValueError if they differ; a task without one takes the data's."""
        self._compare(data, getattr(data, "processor", None))

    def on_predict_start(self) -> None:
        """Compare the processors of task and data, without the class names, which inputs to predict do not have."""
        self._compare(self.data, getattr(self.data, "prediction_processor", None))

    def _compare(self, data: Any, theirs: Any) -> None:
        if not self.trains:
            self.known_processor()
        if self.processor is None:
            self.keep_processor(theirs)
        if self.trains and self.processor is not None and self.weight_report is not None:
            self.processor.check_weights(self.weight_report)
        if self.processor is None or theirs is None:
            return
        if difference := self.processor.difference(theirs) or _class_difference(self.processor, theirs):
            raise ValueError(
                f"{type(data).__name__} must prepare its inputs as those that {type(self).__name__} was trained on: "
                f"{difference}; build the data with processor=task.processor"
            )

    # Checkpoints.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the processor, under a key of its own where the class does not take it as an argument."""
        super().on_save_checkpoint(checkpoint)
        if self.processor is not None and "processor" not in checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY]:
            checkpoint[PROCESSOR_KEY] = describe(self.processor)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the processor of the checkpoint; in a resumed run, compare it with that of the data."""
        super().on_load_checkpoint(checkpoint)
        description = processor_description(checkpoint)
        if description is None:
            return
        stored: Any = Processor.from_dict(description)
        if self.processor is None or not self.trains:
            self.keep_processor(stored)
        elif difference := stored.difference(self.processor):
            raise ValueError(
                f"the run that resumes must have the data that it was trained on, got another: {difference}; give it "
                "the data and the settings that it began with"
            )
        elif _class_difference(stored, self.processor):
            rank_zero_warn("the classes of the checkpoint have other names than those of the data; check their order")

    # Prediction.

    @contextmanager
    def predicting(self) -> Iterator[None]:
        """Evaluation mode without gradients inside the block."""
        training = self.training
        self.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.train(training)


def _class_difference(ours: Processor, theirs: Processor) -> str | None:
    if not ours.class_names or not theirs.class_names or ours.class_names == theirs.class_names:
        return None
    return f"class_names is {shortened(theirs.class_names)} in the data and {shortened(ours.class_names)} in the task"
