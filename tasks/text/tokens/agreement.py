"""Checks that starting weights, processors, and batches have the same tokens."""

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
    """Accept starting weights with token embeddings of the same shape as those of the network, (V, C)."""
    if report is None:
        return
    name = next((name for name, parameter in network.named_parameters() if parameter is token_weight), None)
    differing = next((shapes for shapes in report.reshaped if shapes.startswith(f"{name} ")), None)
    if differing is not None:
        raise ValueError(
            f"weights: {report.path} must have as many tokens as the data, and the width of the encoder, but the "
            f"shapes (tokens, width) differ: {differing.removeprefix(f'{name} ')}; set the encoder's options as in "
            f"that run, and {_REMEDY}"
        )


def check_same_tokens(report: WeightReport, tokenizer: dict[str, Any]) -> None:
    """Accept a tokenizer whose tokens have the same numbers as the tokens of the starting weights, if these are known.

    The tokens of weights are those of the checkpoint, or of a tokenizer.json beside the file.
    """
    path = Path(report.path).expanduser()
    file = (path if path.is_dir() else path.parent) / "tokenizer.json"
    if settings := ((report.processor or {}).get("init_args") or {}).get("tokenizer"):
        theirs = tokenizer_from(settings).get_vocab()
    elif file.is_file():
        theirs = Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True)
    else:
        return
    if difference := _difference(theirs, tokenizer_from(tokenizer).get_vocab(), "the weights"):
        raise ValueError(
            f"weights: {report.path} must belong to the tokenizer of the data, got another tokenizer: {difference}; "
            f"{_REMEDY}"
        )


def token_difference(ours: dict[str, Any], theirs: dict[str, Any]) -> str | None:
    """The first token that has another number in the data; None if there is none. Tokenizers are plain values."""
    return _difference(tokenizer_from(ours).get_vocab(), tokenizer_from(theirs).get_vocab(), "the task")


def _difference(ours: dict[str, int], data: dict[str, int], name: str) -> str | None:
    mine, other = ({number: token for token, number in vocabulary.items()} for vocabulary in (ours, data))
    for number in sorted(mine.keys() | other.keys()):
        if mine.get(number) != other.get(number):
            return f"token {number} is {other.get(number)!r} in the data and {mine.get(number)!r} in {name}"
    return None


def check_ids(ids: Tensor, vocab_size: int) -> None:
    """Accept tokens of the vocabulary of a network."""
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= vocab_size):
        raise ValueError(
            f"tokens must lie in 0 to {vocab_size - 1}, the vocabulary of the network, got {int(ids.max())}; use the "
            "tokenizer that it was trained with"
        )
