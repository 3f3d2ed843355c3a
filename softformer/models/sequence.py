"""`SoftEncoder`, an encoder of token sequences with softmax-free attention.

Letters: B batch, N tokens, C model width, H heads, M landmarks.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from softformer.layers.attention import SoftAttention
from softformer.layers.block import PreNormBlock
from softformer.layers.heads import check_heads, check_tokens
from softformer.layers.landmarks import ConvSegmentLandmarks, SegmentLandmarks
from softformer.layers.padding import pack, packing_of, unpack
from softformer.layers.positions import LearnedPositions, PositionKind, SinusoidalPositions
from softformer.layers.softmax_attention import SoftmaxAttention
from softformer.ops.attention.backends import BackendName
from softformer.ops.inverse import Cholesky, Inverse, check_inverse
from softformer.ops.options import Options, check_choice

SequenceAttention = Literal["soft", "softmax"]
SequenceLandmarks = Literal["mean", "conv"]

_NUM_LANDMARKS = 64


class SoftOptions(Options):
    """Options of the softmax-free attention in a `SoftEncoder`; the defaults suit sequences.

    Args:
        landmarks: "mean" for segment means, "conv" for segment means after a convolution, with LayerNorm and GELU.
        inverse: `Cholesky` or `Newton`.
        symmetric_norm: Whether to normalize as in SOFT++.
        value_kernel: Width in tokens of a depthwise convolution of the values, odd; 0 for none.
        backend: Implementation of the attention.

    Raises:
        ValueError: The kind of landmarks or of inverse is unknown. The layers check the other options.
    """

    def __init__(
        self,
        landmarks: SequenceLandmarks = "mean",
        inverse: Inverse = Cholesky(),  # noqa: B008  (never changes, and recipes read it here)
        symmetric_norm: bool = True,
        value_kernel: int = 0,
        backend: BackendName = "auto",
    ) -> None:
        check_choice("landmarks", landmarks, SequenceLandmarks)
        check_inverse(inverse)
        self.landmarks = landmarks
        self.inverse = inverse
        self.symmetric_norm = symmetric_norm
        self.value_kernel = value_kernel
        self.backend: BackendName = backend


class SoftEncoder(nn.Module):
    """A pre-norm transformer encoder over sequences with softmax-free attention: linear in the number of tokens.

    Each block is x <- x + attention(LN(x)), x <- x + MLP(LN(x)); a LayerNorm ends the encoder. Neither padding nor the
    other sequences of the batch change a result: real tokens are packed to the front at entry and unpacked at exit,
    positions count real tokens, and landmarks are segments of real tokens.

    Args:
        dim: Model width C.
        depth: Number of blocks.
        num_heads: Number of heads H; divides dim.
        num_landmarks: Number of landmarks M; a shorter sequence has one for each token.
        attention: "soft", or "softmax" for the same encoder with softmax attention.
        mlp_ratio: Hidden width of the MLPs over dim.
        dropout: Dropout rate of the input, of attention outputs, and in MLPs.
        drop_path: Stochastic depth: drop rate of residual branches in the last block, growing from 0 in the first.
        positions: "sinusoidal" and "rotary" work at any length, "learned" up to max_length; "none" ignores the order.
        gradient_checkpointing: Whether the backward computes blocks again to save memory.
        soft: Options of softmax-free attention.
        max_length: Number of learned positions in tokens.

    Raises:
        ValueError: An option is out of range, unknown, or excludes another.

    Source: The attention of Lu et al. 2021 and 2024 in the usual pre-norm encoder; segment means as landmarks, the
    scaling by length, packing, and positions are ours.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        *,
        num_landmarks: int = _NUM_LANDMARKS,
        attention: SequenceAttention = "soft",
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        positions: PositionKind = "sinusoidal",
        gradient_checkpointing: bool = False,
        soft: SoftOptions = SoftOptions(),  # noqa: B008  (never changes, and recipes read it here)
        max_length: int = 512,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        check_choice("attention", attention, SequenceAttention)
        check_choice("positions", positions, PositionKind)
        if depth < 0:
            raise ValueError(f"depth must be zero or positive, got {depth}")
        if mlp_ratio <= 0:
            raise ValueError(f"mlp_ratio must be positive, got {mlp_ratio}")
        for name, rate in (("dropout", dropout), ("drop_path", drop_path)):
            if not 0.0 <= rate < 1.0:
                raise ValueError(f"{name} must be in [0, 1), got {rate}")
        if not isinstance(soft, SoftOptions):
            raise ValueError(f"soft must be a SoftOptions, got {soft!r}")
        for name, value, default in (("soft", soft, SoftOptions()), ("num_landmarks", num_landmarks, _NUM_LANDMARKS)):
            if attention == "softmax" and value != default:
                raise ValueError(
                    f"{name} must be left out with attention='softmax', which does not use it, got {value!r}"
                )
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.dim = dim
        self.gradient_checkpointing = gradient_checkpointing
        self.positions: nn.Module = nn.Identity()
        if positions == "sinusoidal":
            self.positions = SinusoidalPositions(dim)
        elif positions == "learned":
            self.positions = LearnedPositions(dim, max_length, **factory)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList()
        common: dict[str, Any] = {"rotary": positions == "rotary", "proj_drop": dropout, **factory}
        for number in range(depth):
            mixer: nn.Module
            if attention == "softmax":
                mixer = SoftmaxAttention(dim, num_heads, **common)
            else:
                landmarks: nn.Module = SegmentLandmarks(num_landmarks)
                if soft.landmarks == "conv":
                    landmarks = ConvSegmentLandmarks(dim // num_heads, num_landmarks, **factory)
                mixer = SoftAttention(dim, num_heads, **{**soft.init_args, "landmarks": landmarks}, **common)
            rate = drop_path * number / max(1, depth - 1)
            block = PreNormBlock(dim, mixer, mlp_ratio=mlp_ratio, mlp_drop=dropout, branch_drop=rate, **factory)
            self.blocks.append(block)
        self.norm = nn.LayerNorm(dim, **factory)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode tokens (B, N, C) with their mask (B, N) bool, True at real tokens, which may be anywhere.

        Returns:
            (B, N, C), zero at padding.

        Raises:
            ValueError: A shape or the mask is wrong, or there are more tokens than learned positions.
        """
        return self.hidden_states(x, mask)[-1]

    def hidden_states(self, x: Tensor, mask: Tensor | None = None, *, every: bool = False) -> list[Tensor]:
        """The encoded tokens, preceded by the inputs of all blocks with `every`; all (B, N, C), zero at padding."""
        check_tokens("x", x, mask, self.dim)
        packing = None if mask is None else packing_of(mask)
        packed_mask = None if packing is None else packing.mask
        x = self.drop(self.positions(x if packing is None else pack(x, packing)))
        states = []
        for block in self.blocks:
            if every:
                states.append(x)
            if self.gradient_checkpointing and self.training:
                x = checkpoint(block, x, packed_mask, use_reentrant=False)
            else:
                x = block(x, packed_mask)
        states.append(self.norm(x))
        return states if packing is None or mask is None else [unpack(state, packing, mask) for state in states]

    def extra_repr(self) -> str:
        return f"dim={self.dim}, gradient_checkpointing={self.gradient_checkpointing}"
