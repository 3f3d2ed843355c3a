"""One block of the pyramid, from the options of the network and the shape of its stage."""

from typing import Any, NamedTuple

from torch import nn

from softformer.layers.attention import SoftAttention
from softformer.layers.block import DropKind, PostNormBlock, PreNormBlock
from softformer.layers.landmarks import AdaptiveGridLandmarks, ConvGridLandmarks, PooledGridLandmarks
from softformer.layers.softmax_attention import SoftmaxAttention
from softformer.models.vision.options import AttentionKind, LandmarkKind, StageShape
from softformer.ops.attention.backends import BackendName
from softformer.ops.inverse import Inverse


class BlockOptions(NamedTuple):
    """What the blocks of all stages have in common; see `softformer.SoftVisionTransformer`."""

    attention: AttentionKind
    landmarks: LandmarkKind
    num_landmarks: int
    inverse: Inverse
    symmetric_norm: bool
    qkv_bias: bool
    proj_drop: float
    block_drop: DropKind
    backend: BackendName
    factory: dict[str, Any]


def make_block(shape: StageShape, options: BlockOptions, drop: float) -> nn.Module:
    """A SOFT block as published (post-norm), or a softmax block (pre-norm) where the stage has no landmarks.

    Args:
        shape: The stage.
        options: What all blocks share.
        drop: Drop rate of the residual branches.
    """
    common: dict[str, Any] = {
        "mlp_ratio": shape.mlp_ratio,
        "mlp_drop": options.proj_drop,
        "branch_drop": drop,
        **options.factory,
    }
    if shape.landmark_stride is None:
        mixer = SoftmaxAttention(
            shape.dim, shape.num_heads, qkv_bias=options.qkv_bias, proj_drop=options.proj_drop, **options.factory
        )
        return PreNormBlock(shape.dim, mixer, **common)
    return PostNormBlock(
        shape.dim, _grid_mixer(shape, shape.landmark_stride, options), drop_kind=options.block_drop, **common
    )


def _grid_mixer(shape: StageShape, stride: int, options: BlockOptions) -> nn.Module:
    common: dict[str, Any] = {
        "value_kernel": shape.value_kernel,
        "proj_drop": options.proj_drop,
        **options.factory,
    }
    if options.attention == "softmax":
        return SoftmaxAttention(shape.dim, shape.num_heads, value_axes=2, **common)
    return SoftAttention(
        shape.dim,
        shape.num_heads,
        landmarks=_landmarks(shape.dim // shape.num_heads, stride, options),
        inverse=options.inverse,
        symmetric_norm=options.symmetric_norm,
        scale_by_length=False,
        backend=options.backend,
        **common,
    )


def _landmarks(head_dim: int, stride: int, options: BlockOptions) -> nn.Module:
    if options.landmarks == "adaptive":
        return AdaptiveGridLandmarks(options.num_landmarks)
    if options.landmarks == "pool":
        return PooledGridLandmarks(stride)
    return ConvGridLandmarks(head_dim, stride, **options.factory)
