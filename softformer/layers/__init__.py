"""Modules that own parameters and call `softformer.ops`: attention, landmarks, and residual blocks."""

from softformer.layers.attention import SoftAttention as SoftAttention
from softformer.layers.block import PostNormBlock as PostNormBlock
from softformer.layers.block import PreNormBlock as PreNormBlock
from softformer.layers.landmarks import AdaptiveGridLandmarks as AdaptiveGridLandmarks
from softformer.layers.landmarks import ConvGridLandmarks as ConvGridLandmarks
from softformer.layers.landmarks import ConvSegmentLandmarks as ConvSegmentLandmarks
from softformer.layers.landmarks import PooledGridLandmarks as PooledGridLandmarks
from softformer.layers.landmarks import SegmentLandmarks as SegmentLandmarks
from softformer.layers.softmax_attention import SoftmaxAttention as SoftmaxAttention
