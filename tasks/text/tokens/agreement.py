"""Whether weights, of a start or of a run that goes on, mean the same tokens as the data."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from torch import Tensor, nn

from softformer.training.checkpoints.weights import WeightReport
from tasks.base import InputSettingsModule
from tasks.text.tokens.tokenizers import tokenizer_from

_REMEDY = (
    "take the tokenizer that they were trained with: --data.tokenizer AutoTokenizerSpec --data.tokenizer.name FOLDER, "
    "where FOLDER is that of the model, or the folder 'tokenizer' in that of the run"
)


def check_token_weights(report: WeightReport | None, network: nn.Module, token_weight: Tensor) -> None:
    """Accept starting weights that have a vector for each token.

    Args:
        report: What was loaded; None where nothing was.
        network: What it was loaded into.
        token_weight: The network's vectors of tokens, (V, C).

    Raises:
        ValueError: The file has vectors of another width, or of another number of tokens.
    """
    if report is None:
        return
    name = next((name for name, parameter in network.named_parameters() if parameter is token_weight), None)
    differing = next((shapes for shapes in report.reshaped if shapes.startswith(f"{name} ")), None)
    if differing is not None:
        raise ValueError(
            f"weights: {report.path} must have as many tokens as the data, and the width of the encoder, but the "
            f"shapes (tokens, width) differ: {differing.removeprefix(f'{name} ')}. Set the encoder's options as they "
            f"were, and {_REMEDY}"
        )


def check_same_tokens(report: WeightReport | None, data: dict[str, Any] | None) -> None:
    """Accept data whose tokens have the numbers that they have in the starting weights, where that is known.

    Args:
        report: What was loaded; None where nothing was.
        data: The input settings of the data; None where there are none.

    Raises:
        ValueError: A number stands for another token.
    """
    settings = (data or {}).get("tokenizer")
    if report is None or settings is None:
        return
    theirs = _tokens(report)
    if theirs is not None and (difference := _difference(theirs, settings)):
        raise ValueError(f"weights: {report.path} belongs to another tokenizer: {difference}; {_REMEDY}")


def _difference(theirs: dict[int, str], settings: dict[str, Any]) -> str | None:
    """The first token that is not the same in the data, whose tokenizer has the given settings; None without one."""
    ours = _tokens_of(settings)
    numbers = (number for number in sorted(theirs.keys() | ours.keys()) if theirs.get(number) != ours.get(number))
    number = next(numbers, None)
    if number is None:
        return None
    return f"token {number} is {theirs.get(number)!r} there, and {ours.get(number)!r} in the data"


def _tokens(report: WeightReport) -> dict[int, str] | None:
    """The tokens of the weights by their numbers, from our checkpoint or from a folder; None where they are unknown."""
    if settings := (report.input_settings or {}).get("tokenizer"):
        return _tokens_of(settings)
    path = Path(report.path).expanduser()
    file = (path if path.is_dir() else path.parent) / "tokenizer.json"
    return _by_number(Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True)) if file.is_file() else None


def _tokens_of(settings: dict[str, Any]) -> dict[int, str]:
    """The tokens of a tokenizer with the given settings, by their numbers."""
    return _by_number(tokenizer_from(settings).get_vocab())


def _by_number(vocabulary: dict[str, int]) -> dict[int, str]:
    return {number: token for token, number in vocabulary.items()}


class TokenTask(InputSettingsModule):
    """Base of the tasks on tokens: they train on data whose tokens are those of the weights that they begin with."""

    def setup(self, stage: str) -> None:
        """Learn from the data that is trained on how texts become tokens.

        Raises:
            ValueError: The starting weights mean other tokens.
        """
        super().setup(stage)
        if stage == "fit":
            check_same_tokens(self.weight_report, self.input_settings)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over how texts become tokens.

        Raises:
            ValueError: A run goes on, and its data has other tokens by now.
        """
        super().on_load_checkpoint(checkpoint)
        known = (checkpoint.get("input_settings") or {}).get("tokenizer")
        ours = (self.input_settings or {}).get("tokenizer")
        if not self.trains or known is None or ours is None:
            return
        if difference := _difference(_tokens_of(known), ours):
            raise ValueError(
                f"the run that goes on had another tokenizer: {difference}. Give it the data and the settings that it "
                "began with, or the folder 'tokenizer' of its own by --data.tokenizer AutoTokenizerSpec "
                "--data.tokenizer.name FOLDER"
            )
