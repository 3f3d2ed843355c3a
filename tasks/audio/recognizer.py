"""Speech recognition: recordings of any length to text, by connectionist temporal classification."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor
from torchmetrics import MetricCollection

from softformer.models.audio.augment import AudioAugment
from softformer.models.audio.network import AudioBackbone, SpeechNetwork
from softformer.models.audio.windows import Windows
from softformer.ops.options import check_choice
from softformer.training.encoders.spec import EncoderSpec
from softformer.training.module import Stage
from softformer.training.optimizer import OptimizerSpec
from softformer.training.schedule import ScheduleSpec
from tasks.audio.features import FeatureSpec, check_features
from tasks.audio.processor import MAX_SECONDS, AudioProcessor, Recording, known_num_units, known_sample_rate
from tasks.audio.recordings import check_recordings, require_window
from tasks.audio.speech.agreement import check_batch_units, check_unit_weights
from tasks.audio.speech.ctc import ctc_loss, likeliest_units, long_enough
from tasks.audio.speech.error_rates import CharacterErrors, WordErrors
from tasks.audio.speech.left_out import LeftOut
from tasks.audio.speech.transcripts import Transcript, write_transcripts
from tasks.audio.speech.units import Units
from tasks.audio.speech.word_times import WordTime, word_times
from tasks.base import Task

ErrorRate = Literal["wer", "cer"]

_OPTIMIZER = OptimizerSpec()
_SCHEDULE = ScheduleSpec()
# Recordings of a training batch whose errors are counted, which the processor does while the GPU waits.
_COUNTED = 4
# Characters of the example in the log.
_SHOWN = 300


class SpeechRecognizer(Task[AudioProcessor]):
    """Writes down what is said in recordings of any length; time and memory grow with it alone.

    Metrics are the rates of wrong words (wer) and characters (cer) of greedy decoding, those of training over the first
    recordings of each batch alone. A recording with fewer tokens than its transcript needs is left out of the loss,
    which would be infinite, named and counted in the log.

    Args:
        encoder: The network: a SoftEncoderSpec, or your own, called as ``encoder(x, mask)`` with frames x (B, N, C) and
            their mask (B, N), and with its width C as the attribute ``dim``.
        processor: How recordings become waveforms and transcripts units; the command line takes it from the data.
        num_units: Number of units, the blank included. None for those of the processor.
        sample_rate: Sample rate of the recordings (Hz). None for that of the processor.
        features: How sound becomes frames.
        subsampling: How many frames become one token: 1, 2, 4 or 8.
        augment: What chance changes in training.
        windows: How recordings are heard that are longer than those of the training: in overlapping windows, as long as
            the longest of these where `seconds` says nothing else. None hears each in one pass.
        optimizer: Optimizer and its options.
        schedule: Learning rate over the run.
        best_by: The error rate of validation that chooses the best checkpoint: "wer" or "cer". Where hardly a word is
            ever right, as with little data, that of characters tells more.
        weights: File of weights to start from: our own checkpoint, of an AudioClassifier too, or safetensors.
        freeze_backbone: Whether only the head trains; the rest is then as in evaluation, so nothing is augmented.
    """

    network: SpeechNetwork

    def __init__(
        self,
        encoder: EncoderSpec,
        *,
        processor: AudioProcessor | None = None,
        num_units: int | None = None,
        sample_rate: int | None = None,
        features: FeatureSpec = FeatureSpec(),  # noqa: B008  (never changes, and recipes read it here)
        subsampling: int = 4,
        augment: AudioAugment = AudioAugment(),  # noqa: B008
        windows: Windows | None = Windows(),  # noqa: B008
        optimizer: OptimizerSpec = _OPTIMIZER,
        schedule: ScheduleSpec = _SCHEDULE,
        best_by: ErrorRate = "wer",
        weights: str | None = None,
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__(optimizer=optimizer, schedule=schedule)
        check_choice("best_by", best_by, get_args(ErrorRate))
        self.monitor, self.monitor_mode = f"val/{best_by}", "min"
        self.processor = processor
        num_units = known_num_units(num_units, processor)
        self.features = features
        log_mel = features.build(known_sample_rate(sample_rate, processor))
        self.num_units = num_units
        self.sample_rate = log_mel.sample_rate
        backbone = AudioBackbone(log_mel, encoder.build(), subsampling=subsampling, augment=augment, windows=windows)
        self.network = SpeechNetwork(backbone, num_units)
        # Rates of words and characters have states of the same names and may begin alike; they are not to be merged.
        self.make_metrics(MetricCollection({"wer": WordErrors(), "cer": CharacterErrors()}, compute_groups=False))
        self.begin(weights=weights, head=self.network.head, freeze_backbone=freeze_backbone)
        check_unit_weights(self.weight_report, self.network.head)
        self._left_out = LeftOut()
        self._rows_of_loss = 0
        self._example: tuple[str, str] | None = None

    def forward(self, wave: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of the probabilities of units, (B, N, V) float32, and how many of the N tokens are real, (B,).

        Args:
            wave: (B, T) samples in [-1, 1].
            length: (B,) int64, how many of the T are sound.
        """
        return self.network(wave, length)

    def setup(self, stage: str) -> None:
        """Let the data refuse recordings that are shorter than one window of the features."""
        require_window(self.data, self.network.backbone.features)

    def step(self, batch: dict[str, Any], stage: Stage) -> Tensor:
        """Loss of transcripts; counts the errors of greedy decoding."""
        log_probs, num_tokens = self(batch["wave"], batch["length"])
        target = batch["units"], batch["num_units"]
        short = (~long_enough(num_tokens, *target)).nonzero().flatten().tolist()
        self._rows_of_loss = len(batch["index"]) - len(short)
        rows, files = batch["index"].tolist(), batch.get("file") or [""] * len(batch["index"])
        self._left_out.add(stage, [rows[i] for i in short], [files[i] for i in short], used=self._rows_of_loss)
        counted = slice(_COUNTED if stage == "train" else None)
        heard, spoken = self._texts(log_probs.detach()[counted], num_tokens[counted]), batch["transcript"][counted]
        self.log_metrics(stage, heard, spoken)
        if stage == "val" and self._example is None:
            self._example = heard[0], spoken[0]
        return ctc_loss(log_probs, num_tokens, *target)

    def rows_of_loss(self, batch: dict[str, Any]) -> int:
        """How many recordings of the last batch were not left out."""
        return self._rows_of_loss

    def _texts(self, log_probs: Tensor, num_tokens: Tensor) -> list[str]:
        units = self.units
        return [units.decode(ids) for ids in likeliest_units(log_probs, num_tokens)]

    def on_train_epoch_end(self) -> None:
        """Say how many recordings were too short for their transcripts.

        Raises:
            ValueError: All were, so nothing was learned.
        """
        kept = self._left_out.end_epoch("train")
        if kept is None:
            return
        if not self.trainer.strategy.reduce(torch.tensor(kept, device=self.device), reduce_op="sum"):
            raise ValueError(
                f"every recording of the training has fewer tokens than its transcript needs (one in "
                f"{1000 * self.network.backbone.token_seconds:g} ms, and as many as it has units, and those between "
                "equal ones). Check that transcripts belong to their recordings; or lower --model.subsampling, or "
                "take longer units: --data.units BpeUnits"
            )

    def on_test_epoch_end(self) -> None:
        """Say how many recordings were too short for their transcripts."""
        self._left_out.end_epoch("test")

    def teardown(self, stage: str) -> None:
        """Say it of an epoch that did not end."""
        for known in get_args(Stage):
            self._left_out.end_epoch(known)

    def on_validation_epoch_start(self) -> None:
        """Look for an example anew."""
        self._example = None

    def on_validation_epoch_end(self) -> None:
        """Show what was heard in a recording beside what was said; say how many were too short for what was said."""
        self._left_out.end_epoch("val")
        if self._example is not None and not self.trainer.sanity_checking:
            heard, spoken = (textwrap.shorten(text, _SHOWN, placeholder=" ...") for text in self._example)
            rank_zero_info(f"epoch {self.current_epoch}\n  spoken: {spoken}\n  heard:  {heard}")

    @property
    def units(self) -> Units:
        """The units of the transcripts."""
        return self.needed_processor().units

    def meet(self, data: Any) -> None:
        """Compare processors.

        Raises:
            ValueError: As in `Task.meet`; or the data has no transcripts, more or fewer units than the network, or
                another sample rate.
        """
        if (theirs := getattr(data, "processor", None)) is not None:
            known_sample_rate(self.sample_rate, theirs)
            known_num_units(self.num_units, theirs)
        super().meet(data)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the processor of the checkpoint.

        Raises:
            ValueError: A run resumes with data of other units; or the features differ.
        """
        super().on_load_checkpoint(checkpoint)
        check_features(self.features, self.sample_rate, checkpoint)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Check a batch while it is on the CPU, where that costs nothing.

        Raises:
            ValueError: It has no transcripts, or units that the network does not know, or a recording is shorter than a
                window.
        """
        check_recordings(batch, self.network.backbone.features)
        if "units" in batch:
            check_batch_units(batch["units"], batch["num_units"], self.num_units)
        elif "label" in batch or "file" not in batch:
            raise ValueError("the batch has no transcripts (units): speech is learned from a SpeechDataModule")
        return batch

    # What is heard.

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """A row for each recording: file, text, and the transcript with its times, which is no column of a table."""
        indices = batch["index"].tolist()
        heard = self._transcripts(batch["length"], *self(batch["wave"], batch["length"]))
        return [
            {"index": index, "file": file, "text": transcript.text, "_transcript": transcript}
            for index, file, transcript in zip(indices, batch.get("file", indices), heard)
        ]

    def _transcripts(self, lengths: Tensor, log_probs: Tensor, num_tokens: Tensor) -> list[Transcript]:
        token_seconds, units = self.network.backbone.token_seconds, self.units
        durations = (lengths.double() / self.sample_rate).tolist()
        several = [
            word_times(logs[:count], units, token_seconds=token_seconds, seconds=seconds)
            for logs, count, seconds in zip(log_probs.cpu(), num_tokens.tolist(), durations)
        ]
        return [Transcript(" ".join(word.word for word in words), words) for words in several]

    def write_predictions(self, rows: list[dict[str, Any]], folder: Path) -> None:
        """Write the text and the subtitles of each recording into a folder.

        Args:
            rows: As `predict_step` gives them.
            folder: Where to write.
        """
        write_transcripts([str(row["file"]) for row in rows], [row["_transcript"] for row in rows], folder)

    def predict(self, sounds: Recording | Sequence[Recording], *, max_seconds: float = MAX_SECONDS) -> list[Transcript]:
        """Transcripts of recordings of any length.

        Args:
            sounds: One or several: files of any sample rate, or arrays or tensors (T,) at the network's sample
                rate, in [-1, 1].
            max_seconds: Maximum seconds in the network at a time, padding included; a longer recording is alone.

        Returns:
            For each recording, its text, and its words with the seconds in which each begins and ends.

        Raises:
            ValueError: The task has no processor; or a recording cannot be read, or is shorter than a window.
        """
        processor, found = self.needed_processor(), list[Transcript]()
        with self.predicting():
            for batch in processor.batches(sounds, max_seconds):
                found += self._transcripts(batch["length"], *self._log_probs(batch))
        return found

    def align(self, sound: Recording, text: str) -> list[WordTime]:
        """The times of the words of a known text in a recording of it.

        Args:
            sound: A file, or an array or tensor (T,).
            text: The text; it is normalized as the transcripts of the training were.

        Returns:
            Its words, with the seconds in which each begins and ends.

        Raises:
            ValueError: As in `predict` and in `tasks.audio.speech.word_times.word_times`.
        """
        if not isinstance(text, str):
            raise ValueError(f"text must be the text of the recording, got {type(text).__name__}")
        processor, backbone = self.needed_processor(), self.network.backbone
        text = processor.writing(text)
        with self.predicting():
            (batch,) = processor.batches([sound])
            (log_probs,), _ = self._log_probs(batch)
            seconds = int(batch["length"]) / self.sample_rate
            options: dict[str, Any] = {"token_seconds": backbone.token_seconds, "seconds": seconds, "text": text}
            return word_times(log_probs, processor.units, **options)

    def _log_probs(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """As `forward`, of a batch that no data module made."""
        check_recordings(batch, self.network.backbone.features)
        return self(batch["wave"].to(self.device), batch["length"].to(self.device))
