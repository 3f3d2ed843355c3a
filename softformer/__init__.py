"""Softmax-free linear attention (SOFT, SOFT++) as a component, and the tasks built on it.

Importing the package registers the ``soft_*`` models in timm where timm is installed. Names that need more than torch
are imported when they are first used.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from softformer.adapters.huggingface import SoftformerConfig as SoftformerConfig
    from softformer.adapters.huggingface import SoftformerForMaskedLM as SoftformerForMaskedLM
    from softformer.adapters.huggingface import (
        SoftformerForSequenceClassification as SoftformerForSequenceClassification,
    )
    from softformer.adapters.huggingface import SoftformerModel as SoftformerModel
    from softformer.layers.attention import SoftAttention as SoftAttention
    from softformer.models.sequence import SoftEncoder as SoftEncoder
    from softformer.models.sequence import SoftOptions as SoftOptions
    from softformer.models.vision.network import SoftVisionTransformer as SoftVisionTransformer
    from softformer.models.vision.published import from_published as from_published
    from softformer.ops.attention.health import attention_factors as attention_factors
    from softformer.ops.attention.health import attention_health as attention_health
    from softformer.ops.attention.public import soft_attention as soft_attention
    from softformer.ops.inverse import Cholesky as Cholesky
    from softformer.ops.inverse import Inverse as Inverse
    from softformer.ops.inverse import Newton as Newton
    from softformer.training.checkpoints.loading import load as load
    from softformer.training.encoders import EncoderSpec as EncoderSpec
    from softformer.training.module import SoftformerModule as SoftformerModule

__version__ = "0.1.0"

# The module of each name above; a test compares them.
_LAZY = {
    "Cholesky": "softformer.ops.inverse",
    "Inverse": "softformer.ops.inverse",
    "Newton": "softformer.ops.inverse",
    "SoftAttention": "softformer.layers.attention",
    "SoftEncoder": "softformer.models.sequence",
    "SoftOptions": "softformer.models.sequence",
    "attention_factors": "softformer.ops.attention.health",
    "attention_health": "softformer.ops.attention.health",
    "soft_attention": "softformer.ops.attention.public",
    "SoftformerConfig": "softformer.adapters.huggingface",
    "SoftformerForMaskedLM": "softformer.adapters.huggingface",
    "SoftformerForSequenceClassification": "softformer.adapters.huggingface",
    "SoftformerModel": "softformer.adapters.huggingface",
    "from_published": "softformer.models.vision.published",
    "SoftVisionTransformer": "softformer.models.vision.network",
    "EncoderSpec": "softformer.training.encoders",
    "load": "softformer.training.checkpoints.loading",
    "SoftformerModule": "softformer.training.module",
}

__all__ = sorted(_LAZY)

# `python -m softformer` imports this package before its command line, whose help needs no model, and which makes
# settings that torch reads when it loads. The command line imports the models itself.
_IS_PROGRAM = sys.argv[:1] == ["-m"] and ("-m", "softformer") in zip(sys.orig_argv, sys.orig_argv[1:])
if find_spec("timm") is not None and not _IS_PROGRAM:
    import_module("softformer.adapters.timm")


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'softformer' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
