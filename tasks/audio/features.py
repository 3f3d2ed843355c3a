"""How audio tasks turn sound into frames, as configuration; and that the sounds have the sample rate it is made for."""

from typing import Any

from softformer.models.audio.features import LogMel
from softformer.ops.options import Options
from softformer.training.checkpoints.content import rebuildable_hyperparameters
from softformer.training.module import SoftformerModule
from softformer.training.specs import takes_options_of


@takes_options_of(LogMel, "sample_rate")
class FeatureSpec(Options):
    """Log-mel frames, with the options of `softformer.models.audio.features.LogMel`."""

    def __init__(self, **options: Any) -> None:
        """Remember the options; `build` checks them."""

    def build(self, sample_rate: int | None) -> LogMel:
        """The features of sounds at a sample rate (Hz).

        Raises:
            ValueError: The rate is unknown, or an option is out of range at it.
        """
        if sample_rate is None:
            raise ValueError(
                "sample_rate must be given in Hz, got None; an audio data module sets it on the command line"
            )
        return LogMel(sample_rate, **self.init_args)


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
