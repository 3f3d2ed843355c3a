"""Whether starting weights mean the same tokens as the data."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from torch import Tensor, nn

from softformer.training.weights import WeightReport
from tasks.text.tokenizers import tokenizer_from

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
    theirs, ours = _tokens(report), _by_number(tokenizer_from(settings).get_vocab())
    if theirs is None or theirs == ours:
        return
    number = next(number for number in sorted(theirs.keys() | ours.keys()) if theirs.get(number) != ours.get(number))
    raise ValueError(
        f"weights: {report.path} belongs to another tokenizer: token {number} is {theirs.get(number)!r} there, and "
        f"{ours.get(number)!r} in the data; {_REMEDY}"
    )


def _tokens(report: WeightReport) -> dict[int, str] | None:
    """The tokens of the weights by their numbers, from our checkpoint or from a folder; None where they are unknown."""
    if settings := (report.input_settings or {}).get("tokenizer"):
        return _by_number(tokenizer_from(settings).get_vocab())
    file = Path(report.path).expanduser() / "tokenizer.json"
    return _by_number(Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True)) if file.is_file() else None


def _by_number(vocabulary: dict[str, int]) -> dict[int, str]:
    return {number: token for token, number in vocabulary.items()}
