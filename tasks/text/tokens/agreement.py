"""Whether starting weights, a processor, and batches agree on the tokens."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from torch import Tensor, nn

from softformer.training.checkpoints.weights import WeightReport
from tasks.text.tokens.tokenizers import tokenizer_from

_REMEDY = (
    "use the tokenizer that they were trained with: --data.tokenizer AutoTokenizerSpec --data.tokenizer.name FOLDER, "
    "where FOLDER is that of the model, or the folder 'tokenizer' of the run"
)


def check_token_weights(report: WeightReport | None, network: nn.Module, token_weight: Tensor) -> None:
    """Accept starting weights that have an embedding for each token.

    Args:
        report: What was loaded; None without starting weights.
        network: What it was loaded into.
        token_weight: The token embeddings of the network, (V, C).

    Raises:
        ValueError: The file has embeddings of another width, or of another number of tokens.
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


def check_same_tokens(report: WeightReport, tokenizer: dict[str, Any]) -> None:
    """Accept a tokenizer whose tokens have the same numbers as in the starting weights, where those are known.

    Args:
        report: What was loaded.
        tokenizer: The tokenizer of the data as plain values.

    Raises:
        ValueError: A number stands for another token.
    """
    theirs = _tokens_of_weights(report)
    if theirs is not None and (difference := _difference(theirs, _tokens(tokenizer), "the weights")):
        raise ValueError(f"weights: {report.path} belongs to another tokenizer: {difference}; {_REMEDY}")


def token_difference(ours: dict[str, Any], theirs: dict[str, Any]) -> str | None:
    """The first token that has another number in the data, with the tokenizers as plain values; None without one."""
    return _difference(_tokens(ours), _tokens(theirs), "the task")


def _difference(ours: dict[int, str], data: dict[int, str], name: str) -> str | None:
    numbers = (number for number in sorted(ours.keys() | data.keys()) if ours.get(number) != data.get(number))
    number = next(numbers, None)
    if number is None:
        return None
    return f"token {number} is {data.get(number)!r} in the data and {ours.get(number)!r} in {name}"


def _tokens_of_weights(report: WeightReport) -> dict[int, str] | None:
    """The tokens of the weights by number, from our checkpoint or from a folder; None where they are unknown."""
    if settings := ((report.processor or {}).get("init_args") or {}).get("tokenizer"):
        return _tokens(settings)
    path = Path(report.path).expanduser()
    file = (path if path.is_dir() else path.parent) / "tokenizer.json"
    return _by_number(Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True)) if file.is_file() else None


def _tokens(tokenizer: dict[str, Any]) -> dict[int, str]:
    return _by_number(tokenizer_from(tokenizer).get_vocab())


def _by_number(vocabulary: dict[str, int]) -> dict[int, str]:
    return {number: token for token, number in vocabulary.items()}


def check_ids(ids: Tensor, vocab_size: int) -> None:
    """Accept tokens inside the vocabulary of a network.

    Raises:
        ValueError: A token lies outside.
    """
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= vocab_size):
        raise ValueError(
            f"tokens must lie in 0 to {vocab_size - 1}, the vocabulary of the network, got {int(ids.max())}; use the "
            "tokenizer that it was trained with"
        )
