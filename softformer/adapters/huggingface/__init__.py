"""The text networks as models of transformers; importing the package registers them in its Auto classes."""

from softformer.adapters.huggingface.config import SoftformerConfig as SoftformerConfig
from softformer.adapters.huggingface.models import SoftformerForMaskedLM as SoftformerForMaskedLM
from softformer.adapters.huggingface.models import (
    SoftformerForSequenceClassification as SoftformerForSequenceClassification,
)
from softformer.adapters.huggingface.models import SoftformerModel as SoftformerModel
