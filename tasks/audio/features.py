"""Log-mel features as configuration, and their comparison with those of a checkpoint."""

from typing import Any

from softformer.models.audio.features import LogMel
from softformer.models.checkpoint_keys import ARGUMENTS_KEY
from softformer.ops.options import Options
from softformer.training.checkpoints.content import processor_description
from softformer.training.checkpoints.earlier import with_public_paths
from softformer.training.specs import takes_options_of


@takes_options_of(LogMel, "sample_rate")
class FeatureSpec(Options):
    """Log-mel frames, with the options of `softformer.models.audio.features.LogMel`."""

    def __init__(self, **options: Any) -> None:
        """Store the options; `build` checks them."""

    def build(self, sample_rate: int | None) -> LogMel:
        """The features of recordings at a sample rate (Hz); a ValueError if an option is out of range at this rate."""
        if sample_rate is None:
            raise ValueError(
                "sample_rate must be given in Hz, got None; an audio data module sets it on the command line"
            )
        return LogMel(sample_rate, **self.init_args)


def check_features(features: FeatureSpec, sample_rate: int, checkpoint: dict[str, Any]) -> None:
    """Raise ValueError unless a checkpoint was trained on these features at this sample rate (Hz)."""
    stored = with_public_paths(checkpoint.get(ARGUMENTS_KEY) or {})
    processor = (processor_description(checkpoint) or {}).get("init_args") or {}
    before, now = _options(stored.get("features")), features.init_args
    differing = [(f"features.{name}", before[name], now[name]) for name in before if before[name] != now[name]]
    rate = stored.get("sample_rate") or processor.get("sample_rate")
    if rate not in (None, sample_rate):
        differing.append(("sample_rate", rate, sample_rate))
    for name, theirs, ours in differing:
        raise ValueError(
            f"model.{name} is {theirs} in the checkpoint and {ours} here, but features must match those of the "
            f"checkpoint, because the network was trained on them; set --model.{name} "
            f"{'null' if theirs is None else theirs}"
        )


def _options(features: Any) -> dict[str, Any]:
    """The options of the features of a checkpoint, defaults included."""
    given = features.get("init_args", features) if isinstance(features, dict) else {}
    return FeatureSpec(**given).init_args if features else {}
