"""Functions of tensors, without parameters: the attention, the inverse of its landmark matrix, and health figures."""

from softformer.ops.attention.backends import available_backends as available_backends
from softformer.ops.attention.health import AttentionHealth as AttentionHealth
from softformer.ops.attention.health import attention_factors as attention_factors
from softformer.ops.attention.health import attention_health as attention_health
from softformer.ops.attention.public import soft_attention as soft_attention
from softformer.ops.inverse import Cholesky as Cholesky
from softformer.ops.inverse import Inverse as Inverse
from softformer.ops.inverse import Newton as Newton
