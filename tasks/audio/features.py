"""How audio tasks turn sound into frames, as configuration; and that the sounds have the sample rate it is made for."""

from typing import Any

from softformer.models.audio.features import LogMel, Normalization
from softformer.ops.options import Options
from softformer.training.checkpoints.content import rebuildable_hyperparameters
from softformer.training.module import SoftformerModule


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
        )


def check_features(task: SoftformerModule, checkpoint: dict[str, Any]) -> None:
    """Accept a checkpoint whose network heard sounds as the task does.

    Args:
        task: It has the arguments features and sample_rate.
        checkpoint: Its content.

    Raises:
        ValueError: An option of the features, or the sample rate, differs, for which no weight would be right.
    """
    stored = checkpoint.get(task.CHECKPOINT_HYPER_PARAMS_KEY) or {}
    ours = rebuildable_hyperparameters(task)
    rates = {"sample_rate": (stored.get("sample_rate"), ours["sample_rate"])}
    before, now = _options(stored.get("features")), _options(ours["features"])
    differing = {f"features.{name}": (before[name], now[name]) for name in before if before[name] != now.get(name)}
    for name, (theirs, here) in {**rates, **differing}.items():
        if theirs is not None and theirs != here:
            raise ValueError(
                f"model.{name} is {theirs} in the checkpoint and {here} here: a network hears rightly by the features "
                "that it was trained with alone; leave the option out"
            )


def _options(features: Any) -> dict[str, Any]:
    """The options of a description of features, or of the object."""
    given = features.get("init_args", features) if isinstance(features, dict) else {}
    return FeatureSpec(**given).init_args if features else {}


def check_sample_rate(sample_rate: int, settings: dict[str, Any] | None) -> None:
    """Compare the sample rate of a network (Hz) with that of data.

    Args:
        sample_rate: What the features were made for.
        settings: What the data module says of its inputs; None where there is none.

    Raises:
        ValueError: They differ, so every frequency would be taken for another.
    """
    given = (settings or {}).get("sample_rate")
    if given not in (None, sample_rate):
        raise ValueError(
            f"the data must have the sample rate of the network, {sample_rate} Hz, got {given} Hz: "
            f"set --data.sample_rate {sample_rate}"
        )
