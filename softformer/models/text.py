"""Text networks: token ids in; hidden states, classes, or tokens out. Tasks and the Auto classes share them.

Letters: B batch, N tokens, C model width, V vocabulary, K classes. Masks are (B, N) bool, True at real tokens.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softformer.models.classifier import ClassifierNetwork, encoder_width
from softformer.ops.options import check_positive


class TextBackbone(nn.Module, ABC):
    """Base of backbones: token ids to hidden states of the width `dim`, which is C."""

    dim: int

    @property
    @abstractmethod
    def token_weight(self) -> Tensor:
        """The vectors of the tokens, (V, C)."""

    @abstractmethod
    def forward(self, ids: Tensor, mask: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """Hidden states (B, N, C) of ids (B, N).

        types (B, N) are the tokenizer's numbers of the texts of a pair, for tokenizers that give them.
        """


class TextEncoder(TextBackbone):
    """Token embeddings and an encoder.

    Embeddings are initialized with a standard deviation of 1 / sqrt(C) and scaled by sqrt(C), so that they are as large
    as sinusoidal positions and can be tied to an output layer.

    Args:
        vocab_size: Size of the vocabulary V.
        encoder: Module called as ``encoder(x, mask)`` with x (B, N, C), whose attribute ``dim`` is C.

    Raises:
        ValueError: vocab_size is not positive, or the encoder has no dim.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.4.
    """

    def __init__(self, vocab_size: int, encoder: nn.Module) -> None:
        super().__init__()
        check_positive("vocab_size", vocab_size)
        self.dim = encoder_width(encoder)
        self.embedding = nn.Embedding(vocab_size, self.dim)
        self.encoder = encoder
        nn.init.normal_(self.embedding.weight, std=self.dim**-0.5)

    @property
    def token_weight(self) -> Tensor:
        """The vectors of the tokens, (V, C)."""
        return self.embedding.weight

    def embed(self, ids: Tensor) -> Tensor:
        """The scaled vectors of ids, (B, N) -> (B, N, C)."""
        return self.embedding(ids) * self.dim**0.5

    def forward(self, ids: Tensor, mask: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """Hidden states (B, N, C) of ids (B, N). Types are not used, because separators mark the texts of a pair."""
        return self.encoder(self.embed(ids), mask)


def text_backbone(module: nn.Module, vocab_size: int | None) -> TextBackbone:
    """The module if it is a `TextBackbone`; otherwise a `TextEncoder` of it with the vocabulary of the tokenizer.

    Raises:
        ValueError: vocab_size is missing, or the vocabulary of the backbone is smaller.
    """
    if not isinstance(module, TextBackbone):
        if vocab_size is None:
            raise ValueError("vocab_size must be given: the encoder has no token embeddings of its own")
        return TextEncoder(vocab_size, module)
    size = module.token_weight.shape[0]
    if vocab_size is not None and vocab_size > size:
        raise ValueError(
            f"vocab_size must be at most {size}, the vocabulary of the network, got {vocab_size}; use the tokenizer of "
            "the network"
        )
    return module


class TextClassifierNetwork(ClassifierNetwork):
    """A classifier of texts on a `TextBackbone`; arguments as in `ClassifierNetwork`."""

    def forward(self, ids: Tensor, mask: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """Logits (B, K) of ids (B, N); arguments as in `TextBackbone.forward`."""
        return self.classify(self.backbone(ids, mask, types), mask)


class MaskedLanguageHead(nn.Module):
    """Hidden states to tokens: linear, GELU, LayerNorm, and the token vectors as the output layer.

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
    """A backbone and a head that predicts the token at each position; its output layer is tied to the token vectors."""

    def __init__(self, backbone: TextBackbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = MaskedLanguageHead(backbone.dim, backbone.token_weight.shape[0])

    def forward(
        self, ids: Tensor, mask: Tensor | None = None, types: Tensor | None = None, *, places: Tensor | None = None
    ) -> Tensor:
        """Logits (B, N, V) of ids (B, N), or (P, V) at the P positions where `places` (B, N) is True."""
        hidden = self.backbone(ids, mask, types)
        return self.head(hidden if places is None else hidden[places], self.backbone.token_weight)
