"""One block of the pyramid, from the options of the network and the shape of its stage."""

from typing import Any

from torch import nn

from softformer.layers.attention import SoftAttention
from softformer.layers.block import PostNormBlock, PreNormBlock
from softformer.layers.landmarks import AdaptiveGridLandmarks, ConvGridLandmarks, PooledGridLandmarks
from softformer.layers.softmax_attention import SoftmaxAttention
from softformer.models.vision.options import BlockOptions, StageShape


def make_block(shape: StageShape, options: BlockOptions, drop: float) -> nn.Module:
    """A SOFT block as published (post-norm), or a softmax block (pre-norm) where the stage has no landmarks.

    drop is the drop rate of the residual branches.
    """
    sizes = shape.dim, shape.num_heads
    mixing: dict[str, Any] = {"proj_drop": options.proj_drop, **options.factory}
    block: dict[str, Any] = {"mlp_ratio": shape.mlp_ratio, "mlp_drop": options.proj_drop, "branch_drop": drop}
    block.update(options.factory)
    if shape.landmark_stride is None:
        return PreNormBlock(shape.dim, SoftmaxAttention(*sizes, qkv_bias=options.qkv_bias, **mixing), **block)
    mixer: nn.Module
    if options.attention == "softmax":
        mixer = SoftmaxAttention(*sizes, value_axes=2, value_kernel=shape.value_kernel, **mixing)
    else:
        mixer = SoftAttention(
            *sizes,
            landmarks=_landmarks(shape.dim // shape.num_heads, shape.landmark_stride, options),
            value_kernel=shape.value_kernel,
            inverse=options.inverse,
            symmetric_norm=options.symmetric_norm,
            scale_by_length=False,
            backend=options.backend,
            **mixing,
        )
    return PostNormBlock(shape.dim, mixer, drop_kind=options.block_drop, **block)


def _landmarks(head_dim: int, stride: int, options: BlockOptions) -> nn.Module:
    if options.landmarks == "adaptive":
        return AdaptiveGridLandmarks(options.num_landmarks)
    if options.landmarks == "pool":
        return PooledGridLandmarks(stride)
    return ConvGridLandmarks(head_dim, stride, **options.factory)
