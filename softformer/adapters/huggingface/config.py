"""The configuration of Softformer models in transformers: the options of `SoftEncoder` and of the heads, all plain."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from transformers import PreTrainedConfig

from softformer.layers.pooling import PoolingKind
from softformer.layers.positions import PositionKind
from softformer.models.sequence import SequenceAttention, SequenceLandmarks, SoftOptions
from softformer.ops.attention.backends import BackendName
from softformer.ops.inverse import Cholesky, Inverse, Newton, NewtonGradient, NewtonStart
from softformer.ops.options import check_choice

InverseName = Literal["cholesky", "newton"]

_CHOICES: dict[str, Any] = {
    "attention": SequenceAttention,
    "positions": PositionKind,
    "landmarks": SequenceLandmarks,
    "inverse": InverseName,
    "newton_start": NewtonStart,
    "newton_gradient": NewtonGradient,
    "backend": BackendName,
    "pooling": PoolingKind,
}
# Names in transformers of the arguments of `SoftEncoder`.
_ENCODER = {
    "dim": "hidden_size",
    "depth": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_landmarks": "num_landmarks",
    "attention": "attention",
    "mlp_ratio": "mlp_ratio",
    "dropout": "hidden_dropout_prob",
    "drop_path": "drop_path_rate",
    "positions": "positions",
    "max_length": "max_position_embeddings",
}
_SOFT = ("landmarks", "symmetric_norm", "value_kernel", "backend")
_NEWTON = ("iterations", "start", "gradient")


class SoftformerConfig(PreTrainedConfig):
    """Options of a Softformer text model.

    Args:
        vocab_size: Number of tokens.
        hidden_size: Model width.
        num_hidden_layers: Number of blocks.
        num_attention_heads: Number of heads; divides hidden_size.
        num_landmarks: Number of landmarks; shorter sequences use one a token.
        attention: "soft", or "softmax" for the same network with ordinary attention.
        mlp_ratio: Width of the MLPs over hidden_size.
        hidden_dropout_prob: Dropout rate of the input, of attention outputs and in MLPs.
        drop_path_rate: Stochastic depth of the last block, growing from 0 in the first.
        positions: "sinusoidal" and "rotary" work at any length, "learned" up to max_position_embeddings; or "none".
        max_position_embeddings: Number of learned positions in tokens; unused with other positions.
        landmarks: "mean" of segments, or these after a convolution, LayerNorm and GELU ("conv").
        inverse: "cholesky" or "newton" (see `softformer.Cholesky` and `softformer.Newton`).
        inverse_ridge: Multiple of the identity that is added before the inverse.
        newton_iterations: Number of Newton's iterations.
        newton_start: Rule for Newton's first iterate, "row_sum" or "halving".
        newton_gradient: "implicit" or "unrolled".
        symmetric_norm: Whether to normalize as in SOFT++.
        value_kernel: Width in tokens of a depthwise convolution of the values, odd; 0 for none.
        backend: Implementation of the attention: "auto", "reference", "eager" or "triton".
        pooling: Vector of a text in classification: "mean" of its real tokens, the first of them ("cls"), or
            "attention", a learned mean.
        classifier_dropout: Dropout rate before the classifier.
        initializer_range: Standard deviation at which the weights of linear layers start, with biases at zero; None for
            torch's own start, which is that of our tasks. Token embeddings start at 1 / sqrt(hidden_size) either way.
        tie_word_embeddings: Whether the output layer of masked language modelling is the token embeddings themselves.
        pad_token_id: The tokenizer's padding.

    Raises:
        ValueError: An option is unknown or does not go with another.
    """

    model_type = "softformer"

    vocab_size: int = 261
    hidden_size: int = 256
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    num_landmarks: int = 64
    attention: SequenceAttention = "soft"
    mlp_ratio: float = 4.0
    hidden_dropout_prob: float = 0.0
    drop_path_rate: float = 0.0
    positions: PositionKind = "sinusoidal"
    max_position_embeddings: int = 512
    landmarks: SequenceLandmarks = "mean"
    inverse: InverseName = "cholesky"
    inverse_ridge: float = 0.01
    newton_iterations: int = 20
    newton_start: NewtonStart = "row_sum"
    newton_gradient: NewtonGradient = "implicit"
    symmetric_norm: bool = True
    value_kernel: int = 0
    backend: BackendName = "auto"
    pooling: PoolingKind = "mean"
    classifier_dropout: float = 0.0
    initializer_range: float | None = None
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0

    def __post_init__(self, **kwargs: Any) -> None:
        """Check the options; `kwargs` are those of transformers."""
        super().__post_init__(**kwargs)
        self.check()

    def check(self) -> None:
        """Raise a ValueError for options that are unknown or exclude each other; `SoftEncoder` checks the ranges."""
        for name, kind in _CHOICES.items():
            check_choice(name, getattr(self, name), get_args(kind))
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads must be a divisor of hidden_size={self.hidden_size}, got "
                f"{self.num_attention_heads}"
            )
        if self.inverse == "cholesky":
            given = {f"newton_{name}": getattr(self, f"newton_{name}") for name in _NEWTON}
            changed = {name: value for name, value in given.items() if value != getattr(type(self), name)}
            if changed:
                raise ValueError(
                    f"{', '.join(changed)} must have the defaults with inverse='cholesky', which does not iterate, got "
                    f"{', '.join(map(repr, changed.values()))}; set inverse='newton'"
                )

    def encoder_options(self) -> dict[str, Any]:
        """The arguments of `SoftEncoder`."""
        self.check()
        soft = SoftOptions(inverse=self._inverse(), **{name: getattr(self, name) for name in _SOFT})
        return {**{ours: getattr(self, name) for ours, name in _ENCODER.items()}, "soft": soft}

    def _inverse(self) -> Inverse:
        if self.inverse == "cholesky":
            return Cholesky(self.inverse_ridge)
        return Newton(ridge=self.inverse_ridge, **{name: getattr(self, f"newton_{name}") for name in _NEWTON})


def options_of_encoder(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a `SoftformerConfig` for arguments of `SoftEncoder`; a ValueError for unknown ones.

    ``soft`` is a dictionary of `SoftOptions` or ``{"class_path": ..., "init_args": {...}}``, and its inverse is in the
    latter form. gradient_checkpointing is left out, as transformers has a switch of its own for it.
    """
    given = {name: value for name, value in arguments.items() if name not in ("soft", "gradient_checkpointing")}
    soft = dict(arguments.get("soft") or {})
    soft = dict(soft.get("init_args") or {}) if "class_path" in soft else soft
    inverse = soft.pop("inverse", None)
    for known, names in ((tuple(_ENCODER), given), (_SOFT, soft)):
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"encoder must have only the options {', '.join(known)}, got {', '.join(unknown)}")
    options = {_ENCODER[name]: value for name, value in given.items()}
    return {**options, **soft, **({} if inverse is None else _options_of_inverse(inverse))}


def _options_of_inverse(description: Any) -> dict[str, Any]:
    path = description.get("class_path") if isinstance(description, Mapping) else description
    name = str(path).rpartition(".")[2].lower()
    if name not in get_args(InverseName) or not isinstance(description, Mapping):
        raise ValueError(f"inverse must have Cholesky or Newton as its class_path, with init_args, got {path!r}")
    arguments = dict(description.get("init_args") or {})
    options = {"inverse_ridge": arguments.pop("ridge")} if "ridge" in arguments else {}
    return {"inverse": name, **options, **{f"newton_{key}": value for key, value in arguments.items()}}
