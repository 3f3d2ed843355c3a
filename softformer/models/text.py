"""Text networks: token ids in; hidden states, classes or tokens out. Tasks and the Auto classes share them.

Letters: B batch, N tokens, C model width, V vocabulary, K classes. Masks are (B, N) bool, True at real tokens.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softformer.layers.pooling import Pooling, PoolingKind


class TextBackbone(nn.Module, ABC):
    """What the heads stand on: token ids to hidden states.

    Attributes:
        dim: Width C of the hidden states.
    """

    dim: int

    @property
    @abstractmethod
    def token_weight(self) -> Tensor:
        """The vectors of the tokens, (V, C)."""

    @abstractmethod
    def forward(self, ids: Tensor, mask: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """Hidden states (B, N, C).

        Args:
            ids: Token ids, (B, N).
            mask: (B, N) bool, True at real tokens.
            types: (B, N): which text of a pair a token is of, where the tokenizer tells.
        """


class TextEncoder(TextBackbone):
    """Token embeddings and an encoder.

    Embeddings start at a standard deviation of 1 / sqrt(C) and are scaled by sqrt(C), so that they weigh as much as
    sinusoidal positions and can be tied to an output layer.

    Args:
        vocab_size: Number of tokens V.
        encoder: Tokens in, tokens out: called as ``encoder(x, mask)`` with x (B, N, C), and has ``dim``, which is C.

    Raises:
        ValueError: vocab_size is not positive, or the encoder has no dim.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.4.
    """

    def __init__(self, vocab_size: int, encoder: nn.Module) -> None:
        super().__init__()
        if vocab_size < 1:
            raise ValueError(f"vocab_size must be an integer of at least 1, got {vocab_size}")
        dim = getattr(encoder, "dim", None)
        if not isinstance(dim, int):
            raise ValueError(
                f"encoder must have its width as the attribute dim, got {type(encoder).__name__}, which has "
                f"{'none' if dim is None else repr(dim)}"
            )
        self.dim = dim
        self.embedding = nn.Embedding(vocab_size, dim)
        self.encoder = encoder
        nn.init.normal_(self.embedding.weight, std=dim**-0.5)

    @property
    def token_weight(self) -> Tensor:
        """The vectors of the tokens, (V, C)."""
        return self.embedding.weight

    def embed(self, ids: Tensor) -> Tensor:
        """The scaled vectors of ids, (B, N) -> (B, N, C)."""
        return self.embedding(ids) * self.dim**0.5

    def forward(self, ids: Tensor, mask: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """Hidden states (B, N, C) of ids (B, N). Types are not used: separators tell the texts of a pair apart."""
        return self.encoder(self.embed(ids), mask)


def text_backbone(module: nn.Module, vocab_size: int | None) -> TextBackbone:
    """A module as a backbone: itself if it takes ids, else with token embeddings before it.

    Args:
        module: A `TextBackbone`, or an encoder of tokens (see `TextEncoder`).
        vocab_size: Number of tokens that the text has.

    Raises:
        ValueError: The number is needed and not known, or the backbone knows fewer tokens.
    """
    if not isinstance(module, TextBackbone):
        if vocab_size is None:
            raise ValueError("vocab_size must be given: the encoder has no token embeddings of its own")
        return TextEncoder(vocab_size, module)
    known = module.token_weight.shape[0]
    if vocab_size is not None and vocab_size > known:
        raise ValueError(
            f"the text has {vocab_size} tokens, but the network knows {known}: use the tokenizer that belongs to it"
        )
    return module


class TextClassifierNetwork(nn.Module):
    """A backbone, a pooling over real tokens, dropout and a linear layer.

    Args:
        backbone: Ids to hidden states.
        num_classes: Number of classes K.
        pooling: "mean", "cls" (the first real token) or "attention".
        dropout: Dropout rate before the linear layer.
    """

    def __init__(
        self, backbone: TextBackbone, num_classes: int, *, pooling: PoolingKind = "mean", dropout: float = 0.0
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes must be an integer of at least 1, got {num_classes}")
        self.backbone = backbone
        self.pooling = Pooling(pooling, backbone.dim)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.dim, num_classes)

    def forward(self, ids: Tensor, mask: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """Logits (B, K) of ids (B, N), and their types (B, N) where the backbone tells the texts of a pair by them."""
        return self.head(self.drop(self.pooling(self.backbone(ids, mask, types), mask)))


class MaskedLanguageHead(nn.Module):
    """Hidden states to tokens: linear, GELU, LayerNorm, then the token vectors themselves as the output layer.

    Args:
        dim: Model width C.
        vocab_size: Number of tokens V.

    Source: Devlin et al. 2019 (arXiv 1810.04805), the released code.
    """

    def __init__(self, dim: int, vocab_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, x: Tensor, token_weight: Tensor) -> Tensor:
        """Logits (..., V) of hidden states (..., C), by the token vectors (V, C)."""
        return F.linear(self.norm(F.gelu(self.dense(x))), token_weight, self.bias)


class MaskedLanguageNetwork(nn.Module):
    """A backbone and a head that names the token at each place; the output layer is tied to the token vectors.

    Args:
        backbone: Ids to hidden states.
    """

    def __init__(self, backbone: TextBackbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = MaskedLanguageHead(backbone.dim, backbone.token_weight.shape[0])

    def forward(
        self,
        ids: Tensor,
        mask: Tensor | None = None,
        types: Tensor | None = None,
        *,
        places: Tensor | None = None,
    ) -> Tensor:
        """Logits of ids (B, N): (B, N, V), or (P, V) at `places` (B, N) bool alone, which saves most of the work."""
        hidden = self.backbone(ids, mask, types)
        return self.head(hidden if places is None else hidden[places], self.backbone.token_weight)
