"""How audio tasks turn sound into frames, as configuration; and that the sounds have the sample rate it is made for."""

from typing import Any

from softformer.models.audio.features import LogMel, Normalization
from softformer.ops.options import Options
from softformer.training.checkpoints.content import processor_description
from softformer.training.checkpoints.earlier import with_public_paths


class FeatureSpec(Options):
    """Log-mel frames; `softformer.models.audio.features.LogMel` describes them.

    Args:
        window: Length of a window (ms).
        hop: Distance of windows (ms).
        num_mels: Number of mel bands.
        min_hz: Lowest frequency of the bands (Hz).
        max_hz: Highest frequency (Hz); None for half the sample rate.
        normalize: What is brought to mean 0 and standard deviation 1 over the frames of a recording: "bands", each of
            them; "recording", all together; null for nothing.
        top_db: Dynamic range of a recording before it is normalized (dB): smaller values, such as digital silence, are
            raised to this distance from the largest one; null for no floor.
    """

    def __init__(
        self,
        window: float = 25.0,
        hop: float = 10.0,
        num_mels: int = 80,
        min_hz: float = 20.0,
        max_hz: float | None = None,
        normalize: Normalization | None = "bands",
        top_db: float | None = 80.0,
    ) -> None:
        self.window = window
        self.hop = hop
        self.num_mels = num_mels
        self.min_hz = min_hz
        self.max_hz = max_hz
        self.normalize = normalize
        self.top_db = top_db

    def build(self, sample_rate: int | None) -> LogMel:
        """The features of sounds at a sample rate (Hz).

        Raises:
            ValueError: The rate is unknown, or an option is out of range at it.
        """
        if sample_rate is None:
            raise ValueError(
                "sample_rate must be given in Hz, got None; an audio data module sets it on the command line"
            )
        return LogMel(
            sample_rate,
            window=self.window,
            hop=self.hop,
            num_mels=self.num_mels,
            min_hz=self.min_hz,
            max_hz=self.max_hz,
            normalize=self.normalize,
            top_db=self.top_db,
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
    stored = with_public_paths(checkpoint.get("hyper_parameters") or {})
    processor = (processor_description(checkpoint) or {}).get("init_args") or {}
    before, now = _options(stored.get("features")), vars(features)
    differing = [(f"features.{name}", before[name], now[name]) for name in before if before[name] != now[name]]
    rate = stored.get("sample_rate") or processor.get("sample_rate")
    if rate not in (None, sample_rate):
        differing.append(("sample_rate", rate, sample_rate))
    for name, theirs, here in differing:
        raise ValueError(
            f"model.{name} is {theirs} in the checkpoint and {here} here, but features must match those of the "
            f"checkpoint, because the network was trained on them; set --model.{name} "
            f"{'null' if theirs is None else theirs}"
        )


def _options(features: Any) -> dict[str, Any]:
    """The options in a description of features."""
    given = features.get("init_args", features) if isinstance(features, dict) else {}
    return vars(FeatureSpec(**given)) if features else {}
