"""Speech recognition of recordings of any length by connectionist temporal classification (CTC)."""

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
from tasks.audio.base import AudioTask, check_recordings
from tasks.audio.features import FeatureSpec
from tasks.audio.processor import MAX_SECONDS, AudioProcessor, Recording, known_num_units, known_sample_rate
from tasks.audio.speech.agreement import check_batch_units, check_unit_weights
from tasks.audio.speech.ctc import ctc_loss, likeliest_units, long_enough
from tasks.audio.speech.error_rates import CharacterErrors, WordErrors
from tasks.audio.speech.left_out import LeftOut
from tasks.audio.speech.transcripts import Transcript, write_transcripts
from tasks.audio.speech.units import Units
from tasks.audio.speech.word_times import WordTime, word_times

ErrorRate = Literal["wer", "cer"]

_OPTIMIZER = OptimizerSpec()
_SCHEDULE = ScheduleSpec()
# Recordings of a training batch whose errors are counted; the CPU counts them while the GPU waits.
_COUNTED = 4
# Maximum characters of a transcript in the log.
_SHOWN = 300


class SpeechRecognizer(AudioTask):
    """Transcribes recordings of any length. Time and memory are linear in the length.

    The metrics are the word error rate (wer) and the character error rate (cer) of greedy decoding; in training they
    are computed on the first recordings of each batch. A recording that has fewer tokens than its transcript needs is
    left out of the loss, which would be infinite; the log names and counts such recordings.

    Args:
        encoder: The network: a SoftEncoderSpec, or your own, called as ``encoder(x, mask)`` with frames x (B, N, C) and
            their mask (B, N), and with its width C as the attribute ``dim``.
        processor: Sample rate, units, and normalization of transcripts; the command line takes it from the data.
        num_units: Number of units, the blank included. None for the units of the processor.
        sample_rate: Sample rate of the recordings (Hz). None for the rate of the processor.
        features: Options of the log-mel features.
        subsampling: Number of frames that make one token: 1, 2, 4, or 8.
        augment: Augmentation of the recordings in training.
        windows: Overlapping windows for recordings that are longer than all recordings of the training; by default a
            window is as long as the longest of these. None computes each recording in one pass.
        optimizer: Optimizer and its options.
        schedule: Learning rate over the run.
        best_by: Validation error rate that chooses the best checkpoint: "wer" or "cer". "cer" is more informative with
            little data, when hardly any word is correct.
        weights: File of pretrained weights: a checkpoint of this class or of AudioClassifier, or safetensors.
        freeze_backbone: Whether only the head trains; the backbone is then in evaluation mode, without augmentation.
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
        self.num_units = known_num_units(num_units, processor)
        self.processor, self.features = processor, features
        log_mel = features.build(known_sample_rate(sample_rate, processor))
        self.sample_rate = log_mel.sample_rate
        backbone = AudioBackbone(log_mel, encoder.build(), subsampling=subsampling, augment=augment, windows=windows)
        self.network = SpeechNetwork(backbone, self.num_units)
        # torchmetrics would merge both rates, because their states have the same names and may begin with equal values.
        self.make_metrics(MetricCollection({"wer": WordErrors(), "cer": CharacterErrors()}, compute_groups=False))
        self.begin(weights=weights, head=self.network.head, freeze_backbone=freeze_backbone)
        check_unit_weights(self.weight_report, self.network.head)
        self._left_out = LeftOut()
        self._rows_of_loss = 0
        self._example: tuple[str, str] | None = None

    def forward(self, wave: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of units (B, N, V) float32, and the number of real tokens (B,).

        The input is waveforms (B, T) in [-1, 1], padded after `length` (B,) samples.
        """
        return self.network(wave, length)

    def step(self, batch: dict[str, Any], stage: Stage) -> Tensor:
        """CTC loss of the transcripts; the errors of greedy decoding are counted."""
        log_probs, num_tokens = self(batch["wave"], batch["length"])
        target = batch["units"], batch["num_units"]
        short = (~long_enough(num_tokens, *target)).nonzero().flatten().tolist()
        self._rows_of_loss = len(batch["index"]) - len(short)
        rows, files = batch["index"].tolist(), batch.get("file") or [""] * len(batch["index"])
        self._left_out.add(stage, [rows[i] for i in short], [files[i] for i in short], used=self._rows_of_loss)
        counted = slice(_COUNTED if stage == "train" else None)
        hypotheses = list(map(self.units.decode, likeliest_units(log_probs.detach()[counted], num_tokens[counted])))
        transcripts = batch["transcript"][counted]
        self.log_metrics(stage, hypotheses, transcripts)
        if stage == "val" and self._example is None:
            self._example = transcripts[0], hypotheses[0]
        return ctc_loss(log_probs, num_tokens, *target)

    def rows_of_loss(self, batch: dict[str, Any]) -> int:
        """Number of recordings of the last batch that were not left out of the loss."""
        return self._rows_of_loss

    def on_train_epoch_end(self) -> None:
        """Log the number of recordings shorter than their transcripts; a ValueError if all were."""
        used = self._left_out.end_epoch("train")
        if used is None:
            return
        if not self.trainer.strategy.reduce(torch.tensor(used, device=self.device), reduce_op="sum"):
            raise ValueError(
                "recordings must have as many tokens as their transcripts have units, and one more between equal "
                f"units, got too few in every recording of the training (a token lasts "
                f"{1000 * self.network.backbone.token_seconds:g} ms); check that the transcripts belong to their "
                "recordings, decrease --model.subsampling, or use longer units by --data.units BpeUnits"
            )

    def on_test_epoch_end(self) -> None:
        """Log the number of recordings shorter than their transcripts."""
        self._left_out.end_epoch("test")

    def teardown(self, stage: str) -> None:
        """Log the number of recordings shorter than their transcripts in an epoch that did not end."""
        for any_stage in get_args(Stage):
            self._left_out.end_epoch(any_stage)

    def on_validation_epoch_start(self) -> None:
        """Reset the logged example."""
        self._example = None

    def on_validation_epoch_end(self) -> None:
        """Log a transcript with its hypothesis, and the number of recordings shorter than their transcripts."""
        self._left_out.end_epoch("val")
        if self._example is not None and not self.trainer.sanity_checking:
            transcript, hypothesis = (textwrap.shorten(text, _SHOWN, placeholder=" ...") for text in self._example)
            rank_zero_info(f"epoch {self.current_epoch}\n  transcript: {transcript}\n  hypothesis: {hypothesis}")

    @property
    def units(self) -> Units:
        """The units of the transcripts."""
        return self.needed_processor().units

    def check_processor(self, processor: Any) -> None:
        """Raise ValueError unless a processor has the sample rate and the number of units of the network."""
        super().check_processor(processor)
        known_num_units(self.num_units, processor)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Check recordings and units of a batch while it is on the CPU, where a check does not wait for a GPU."""
        check_recordings(batch, self.network.backbone.features)
        if "units" in batch:
            check_batch_units(batch["units"], batch["num_units"], self.num_units)
        elif "label" in batch or "file" not in batch:
            raise ValueError(
                "a batch must have transcripts (units), got none; use a SpeechDataModule, or train an AudioClassifier"
            )
        return batch

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """A row for each recording: its file, its text, and its transcript with times, which tables leave out."""
        indices = batch["index"].tolist()
        return [
            {"index": index, "file": file, "text": transcript.text, "_transcript": transcript}
            for index, file, transcript in zip(indices, batch.get("file", indices), self._transcripts(batch))
        ]

    def _transcripts(self, batch: dict[str, Any]) -> list[Transcript]:
        log_probs, num_tokens = self(batch["wave"], batch["length"])
        return [
            Transcript(" ".join(word.word for word in words), words)
            for logs, count, length in zip(log_probs.cpu(), num_tokens.tolist(), batch["length"].tolist())
            for words in [self._word_times(logs[:count], length)]
        ]

    def _word_times(self, log_probs: Tensor, length: int, text: str | None = None) -> list[WordTime]:
        """Words of a recording of `length` samples from its log-probabilities (N, V)."""
        token_seconds, seconds = self.network.backbone.token_seconds, length / self.sample_rate
        return word_times(log_probs, self.units, token_seconds=token_seconds, seconds=seconds, text=text)

    def write_predictions(self, rows: list[dict[str, Any]], folder: Path) -> None:
        """Write the text and the subtitles of each row of `predict_step` into a folder."""
        write_transcripts([str(row["file"]) for row in rows], [row["_transcript"] for row in rows], folder)

    def predict(self, sounds: Recording | Sequence[Recording], *, max_seconds: float = MAX_SECONDS) -> list[Transcript]:
        """Transcripts of recordings of any length: the text, and the words with their times in seconds.

        Args:
            sounds: One recording or a list: files of any sample rate, or arrays or tensors (T,) in [-1, 1] at the
                sample rate of the network.
            max_seconds: Maximum seconds of a batch, padding included; a longer recording is a batch by itself.

        Raises:
            ValueError: The task has no processor; or a recording cannot be read, or is shorter than one window of the
                features.
        """
        processor, found = self.needed_processor(), list[Transcript]()
        with self.predicting():
            for batch in self.batches(processor, sounds, max_seconds):
                found += self._transcripts(batch)
        return found

    def align(self, sound: Recording, text: str) -> list[WordTime]:
        """Forced alignment: the words of a transcript with their times (seconds) in a recording.

        Args:
            sound: A file, or an array or tensor (T,).
            text: The transcript, which is normalized as the transcripts of the training were.

        Raises:
            ValueError: As in `predict` and in `tasks.audio.speech.word_times.word_times`.
        """
        if not isinstance(text, str):
            raise ValueError(f"text must be the transcript of the recording, got {type(text).__name__}")
        processor = self.needed_processor()
        with self.predicting():
            (batch,) = self.batches(processor, [sound])
            (log_probs,), _ = self(batch["wave"], batch["length"])
            return self._word_times(log_probs, int(batch["length"]), processor.writing(text))
