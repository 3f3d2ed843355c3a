"""The published attention and network as their formulas stand, in plain torch: what we are measured against.

Source: Lu et al. 2021 (arXiv 2110.11945), section 3. Two N x M kernel matrices in memory, twenty Newton iterations for
the inverse with its implicit gradient, (P_q A+)(P_k^T V) from left to right, and autograd. The network around it keeps
pictures channel by channel, writes its GELU out, and copies where heads and grids change places.
"""

from math import pi
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softformer.layers.attention import SoftAttention
from softformer.layers.block import PostNormBlock
from softformer.layers.convolution import Grid
from softformer.layers.landmarks import ConvGridLandmarks
from softformer.layers.softmax_attention import SoftmaxAttention
from softformer.models.vision.network import SoftVisionTransformer
from softformer.models.vision.stages import Stage, resize_positions


class _NewtonInverse(torch.autograd.Function):
    """X <- 2 X - X A' X; the gradient is that of an exact inverse."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        regular = matrix + 0.01 * torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
        x = 1.8 / matrix.sum(-1).amax(-1)[..., None, None].square() * regular
        for _ in range(20):
            x = 2 * x - x @ regular @ x
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return -(x.mT @ grad @ x.mT)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    squares = x.square().sum(-1, keepdim=True) + y.square().sum(-1).unsqueeze(-2)
    return torch.exp(-(squares - 2 * (x @ y.mT)) / 2)


def published_attention(query: Tensor, value: Tensor, landmarks: Tensor) -> Tensor:
    """out = (P_q A+)(P_k^T V), (B, H, N, Dv), all in the type of the inputs but the inverse, which is in float32."""
    query_kernel, key_kernel = _kernel(query, landmarks), _kernel(query, landmarks).mT
    inverse = _NewtonInverse.apply(_kernel(landmarks, landmarks).float()).to(query.dtype)
    return (query_kernel @ inverse) @ (key_kernel @ value)


class PublishedNetwork(nn.Module):
    """A `SoftVisionTransformer` with convolutional landmarks and a softmax last stage, computed the published way.

    Args:
        model: Its modules are taken over, and its attentions and activations replaced; give it a copy.
    """

    def __init__(self, model: SoftVisionTransformer) -> None:
        super().__init__()
        self.stem, self.stages, self.norm, self.head = model.stem, model.stages, model.norm, model.head
        for block in (block for stage in self.stages for block in stage.blocks):
            kind = _PublishedMixer if isinstance(block.mixer, SoftAttention) else _PublishedSoftmax
            block.mixer = kind(block.mixer)
            if isinstance(block, PostNormBlock):
                block.mlp.act = _WrittenOutGelu()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            assert isinstance(stage, Stage)
            x = x if stage.downsample is None else stage.downsample(x)
            grid = (x.shape[2], x.shape[3])
            tokens = x.flatten(2).transpose(1, 2) + resize_positions(stage.pos_embed, grid).flatten(1, 2)
            if stage.class_token is not None:
                first = (stage.class_token + stage.class_pos).expand(tokens.shape[0], -1, -1)
                tokens = torch.cat((first, tokens), 1)
            for block in stage.blocks:
                tokens = block(tokens, grid=grid)
            if stage.class_token is None:
                x = tokens.reshape(tokens.shape[0], *grid, -1).permute(0, 3, 1, 2).contiguous()
        return self.head(self.norm(tokens)[:, 0])


class _WrittenOutGelu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x * (1 + torch.tanh((2 / pi) ** 0.5 * (x + 0.044715 * torch.pow(x, 3))))


class _PublishedMixer(nn.Module):
    """SOFT attention on a grid with convolutional landmarks and a value convolution, sample by head by channel."""

    def __init__(self, mixer: SoftAttention) -> None:
        super().__init__()
        assert isinstance(mixer.landmarks, ConvGridLandmarks)
        assert mixer.value_conv is not None
        self.num_heads, self.query, self.value, self.proj = mixer.num_heads, mixer.query, mixer.value, mixer.proj
        self.landmarks, self.value_conv = mixer.landmarks, mixer.value_conv

    def forward(self, x: Tensor, mask: None = None, *, grid: Grid) -> Tensor:
        batch, length, width = x.shape
        heads, head_width, side = self.num_heads, width // self.num_heads, self.landmarks.stride
        query, value = (
            projection(x).reshape(batch, length, heads, head_width).transpose(1, 2)
            for projection in (self.query, self.value)
        )
        query = query / head_width**0.25
        picture = query.reshape(batch * heads, *grid, head_width).permute(0, 3, 1, 2)
        landmarks = F.conv2d(picture, self.landmarks.weight, stride=side).flatten(2).transpose(1, 2)
        landmarks = F.gelu(self.landmarks.norm(landmarks.reshape(batch, heads, -1, head_width)))
        out = published_attention(query, value, landmarks)
        picture = value.reshape(batch, heads, *grid, head_width).permute(0, 4, 1, 2, 3)
        picture = picture.reshape(batch * head_width, heads, *grid)
        weight = self.value_conv.weight
        mixed = F.conv2d(picture, weight, padding=weight.shape[-1] // 2, groups=heads)
        out = out + mixed.reshape(batch, head_width, heads, *grid).flatten(3).permute(0, 2, 3, 1)
        return self.proj(out.transpose(1, 2).reshape(batch, length, width))


class _PublishedSoftmax(nn.Module):
    """Softmax attention with its matrix in memory."""

    def __init__(self, mixer: SoftmaxAttention) -> None:
        super().__init__()
        self.num_heads = mixer.num_heads
        self.query, self.key_value, self.proj = mixer.query, mixer.key_value, mixer.proj

    def forward(self, x: Tensor, mask: None = None, *, grid: Grid) -> Tensor:
        batch, length, width = x.shape
        query, key, value = (
            part.reshape(batch, length, self.num_heads, -1).transpose(1, 2)
            for part in (self.query(x), *self.key_value(x).chunk(2, dim=-1))
        )
        weights = (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1)
        return self.proj((weights @ value).transpose(1, 2).reshape(batch, length, width))
