"""Log-mel features as configuration, and the check that a checkpoint was trained on the same features."""

from typing import Any

from softformer.models.audio.features import LogMel, Normalization
from softformer.ops.options import Options
from softformer.training.checkpoints.content import processor_description


class FeatureSpec(Options):
    """Options of log-mel features, as in `softformer.models.audio.features.LogMel`.

    Args:
        window: Length of a window (ms).
        hop: Distance between the starts of windows (ms).
        num_mels: Number of mel bands.
        min_hz: Lowest frequency of the bands (Hz).
        max_hz: Highest frequency (Hz); None for half the sample rate.
        normalize: Values that are normalized to mean 0 and standard deviation 1 over the frames of a recording: each
            band by itself ("bands") or all bands together ("recording"). None normalizes nothing.
    """

    def __init__(
        self,
        window: float = 25.0,
        hop: float = 10.0,
        num_mels: int = 80,
        min_hz: float = 20.0,
        max_hz: float | None = None,
        normalize: Normalization | None = "bands",
    ) -> None:
        self.window = window
        self.hop = hop
        self.num_mels = num_mels
        self.min_hz = min_hz
        self.max_hz = max_hz
        self.normalize = normalize

    def build(self, sample_rate: int | None) -> LogMel:
        """The features of recordings at a sample rate (Hz).

        Raises:
            ValueError: The sample rate is unknown, or an option is out of range at this rate.
        """
        if sample_rate is None:
            raise ValueError("sample_rate must be given in Hz, got None; pass the processor of an audio data module")
        return LogMel(
            sample_rate,
            window=self.window,
            hop=self.hop,
            num_mels=self.num_mels,
            min_hz=self.min_hz,
            max_hz=self.max_hz,
            normalize=self.normalize,
        )


def check_features(features: FeatureSpec, sample_rate: int, checkpoint: dict[str, Any]) -> None:
    """Accept a checkpoint whose network was trained on the features of the task.

    Args:
        features: Features of the task.
        sample_rate: Sample rate of the task (Hz).
        checkpoint: Content of the checkpoint.

    Raises:
        ValueError: An option of the features, or the sample rate, differs.
    """
    stored = checkpoint.get("hyper_parameters") or {}
    processor = (processor_description(checkpoint) or {}).get("init_args") or {}
    figures = {"sample_rate": (stored.get("sample_rate") or processor.get("sample_rate"), sample_rate)}
    before, now = _options(stored.get("features")), vars(features)
    figures |= {f"features.{name}": (before[name], now[name]) for name in before if before[name] != now.get(name)}
    for name, (theirs, here) in figures.items():
        if theirs is not None and theirs != here:
            raise ValueError(
                f"model.{name} is {theirs} in the checkpoint and {here} here, but features must match those of the "
                "checkpoint, because the network was trained on them; leave the option out"
            )


def _options(features: Any) -> dict[str, Any]:
    """The options that a checkpoint holds of its features."""
    given = features.get("init_args", features) if isinstance(features, dict) else {}
    return vars(FeatureSpec(**given)) if features else {}
