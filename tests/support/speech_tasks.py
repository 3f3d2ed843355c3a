"""A small speech recognizer, its batches, and a data module of a single batch."""

from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from softformer.training.encoders.sequence import SoftEncoderSpec
from tasks.audio.features import FeatureSpec
from tasks.audio.processor import AudioProcessor
from tasks.audio.recognizer import SpeechRecognizer
from tasks.audio.speech.normalization import Writing
from tasks.audio.speech.units import CharacterUnits, UnitsSpec

ENCODER = SoftEncoderSpec(6, 1, 3, num_landmarks=5)
FEATURES = FeatureSpec(num_mels=11)
RATE = 8000
TEXTS = ["ab c", "dad", "a", "cab", "bad"]
# Samples; 13, 9, 11, 6 and 8 tokens.
LENGTHS = [4201, 2999, 3511, 1999, 2503]


def processor(spec: UnitsSpec | None = None, texts: list[str] = TEXTS) -> AudioProcessor:
    units = (spec or CharacterUnits()).build(texts)
    return AudioProcessor(RATE, units.settings, Writing(case="lower").settings)


PROCESSOR = processor()
NUM_UNITS = PROCESSOR.units.size
# As many units, one of them another.
OTHERS = processor(texts=[text.replace("d", "e") for text in TEXTS])


def recognizer(**options: Any) -> SpeechRecognizer:
    torch.manual_seed(0)
    return SpeechRecognizer(**{"encoder": ENCODER, "processor": PROCESSOR, "features": FEATURES, **options})


def bare(**options: Any) -> SpeechRecognizer:
    """A recognizer without a processor."""
    return recognizer(**{"processor": None, "num_units": NUM_UNITS, "sample_rate": RATE, **options})


def noise(samples: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def batch(texts: list[str] = TEXTS, lengths: list[int] = LENGTHS) -> dict[str, Any]:
    units = [torch.tensor(PROCESSOR.units.encode(text)) for text in texts]
    waves = [noise(samples, seed) for seed, samples in enumerate(lengths)]
    return {
        "wave": torch.nn.utils.rnn.pad_sequence(waves, batch_first=True),
        "length": torch.tensor(lengths),
        "units": torch.nn.utils.rnn.pad_sequence(units, batch_first=True),
        "num_units": torch.tensor([len(ids) for ids in units]),
        "transcript": texts,
        "index": 17 + torch.arange(len(texts)),
    }


class OneBatch(LightningDataModule):
    """One batch again and again, and a processor."""

    def __init__(self, processor: AudioProcessor, given: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.processor = processor
        self.batch = batch() if given is None else given

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader([self.batch], batch_size=None)  # type: ignore[arg-type]

    val_dataloader = test_dataloader = train_dataloader
