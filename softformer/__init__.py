"""Softmax-free linear attention (SOFT, SOFT++) as a component, and the tasks built on it.

Importing the package registers the ``soft_*`` models in timm where timm is installed. Names that need more than torch
are imported when they are first used.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from softformer.adapters.huggingface import (
        SoftformerConfig,
        SoftformerForMaskedLM,
        SoftformerForSequenceClassification,
        SoftformerModel,
    )
    from softformer.layers.attention import SoftAttention
    from softformer.models.sequence import SoftEncoder, SoftOptions
    from softformer.models.vision.network import SoftVisionTransformer
    from softformer.models.vision.published import from_published
    from softformer.ops.attention.health import attention_factors, attention_health
    from softformer.ops.attention.public import soft_attention
    from softformer.ops.inverse import Cholesky, Inverse, Newton
    from softformer.training.checkpoints.loading import load
    from softformer.training.encoders import EncoderSpec
    from softformer.training.module import SoftformerModule

__version__ = "0.1.0"

# Where the names above come from; a test keeps the two lists equal.
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

__all__ = [
    "Cholesky",
    "EncoderSpec",
    "Inverse",
    "Newton",
    "SoftAttention",
    "SoftEncoder",
    "SoftOptions",
    "SoftVisionTransformer",
    "SoftformerConfig",
    "SoftformerForMaskedLM",
    "SoftformerForSequenceClassification",
    "SoftformerModel",
    "SoftformerModule",
    "attention_factors",
    "attention_health",
    "from_published",
    "load",
    "soft_attention",
]

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
