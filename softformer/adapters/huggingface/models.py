"""Softformer text models for transformers: ``AutoModel`` and its kin after ``import softformer.adapters.huggingface``.

They are the network of `softformer.models.text` under transformers' conventions. Letters: B batch, N tokens, C model
width, V vocabulary, K classes. No model returns attentions: softmax-free attention has no N x N matrix.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput, MaskedLMOutput, SequenceClassifierOutput
from transformers.utils import can_return_tuple

from softformer.adapters.huggingface.config import SoftformerConfig
from softformer.layers.block import PreNormBlock
from softformer.layers.pooling import Pooling
from softformer.models.sequence import SoftEncoder
from softformer.models.text import MaskedLanguageHead, TextEncoder

_LOSS_OPTIONS = ("num_items_in_batch", "ignore_index")


class SoftformerLayer(GradientCheckpointingLayer, PreNormBlock):
    """A block of `SoftEncoder` that transformers can checkpoint."""


class SoftformerPreTrainedModel(PreTrainedModel):
    """Base of the models: start of the weights, checkpointing, token embeddings."""

    config_class = SoftformerConfig
    base_model_prefix = "softformer"
    supports_gradient_checkpointing = True
    _no_split_modules = ("SoftformerLayer",)

    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
        elif isinstance(module, MaskedLanguageHead):
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and std is not None:
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif callable(reset := getattr(module, "reset_parameters", None)):
            reset()

    def _set_gradient_checkpointing(self, *args: Any, **kwargs: Any) -> None:
        super()._set_gradient_checkpointing(*args, **kwargs)
        # transformers sets every flag of that name. The encoder's own would checkpoint all layers once more, and keep
        # on the device the activations that are to be offloaded.
        self.base_model.backbone.encoder.gradient_checkpointing = False

    def get_input_embeddings(self) -> nn.Embedding:
        """The token embeddings; the network scales their vectors by sqrt(C)."""
        return self.base_model.backbone.embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the token embeddings."""
        self.base_model.backbone.embedding = value


class SoftformerModel(SoftformerPreTrainedModel):
    """Token embeddings and a `softformer.SoftEncoder`.

    Args:
        config: Options of the network.
    """

    def __init__(self, config: SoftformerConfig) -> None:
        super().__init__(config)
        encoder = SoftEncoder(**config.encoder_options())
        for block in encoder.blocks:
            # The same module, of the class by which transformers finds the layers that it can checkpoint.
            block.__class__ = SoftformerLayer
        self.backbone = TextEncoder(config.vocab_size, encoder)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutput:
        """Hidden states.

        Args:
            input_ids: (B, N).
            attention_mask: (B, N), 1 or True at real tokens; None if all are.
            token_type_ids: (B, N), not used: separators divide the texts of a pair.
            inputs_embeds: (B, N, C) in place of input_ids, as the token embeddings give them.
            output_attentions: Must be False.
            output_hidden_states: Whether to return the input of each block as well.

        Returns:
            last_hidden_state (B, N, C), zero at pads; hidden_states, a tuple of num_hidden_layers + 1 of which the last
            is last_hidden_state.

        Raises:
            ValueError: Attentions are requested, or the inputs do not fit.
        """
        if self.config.output_attentions if output_attentions is None else output_attentions:
            raise ValueError(
                "output_attentions must be False, got True: no matrix of all pairs of tokens is ever formed;"
                " softformer.attention_factors gives the factors of softmax-free attention"
            )
        every = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        if not isinstance(every, bool | None):
            raise ValueError(f"output_hidden_states must be True or False, got {every!r}; pick from the tuple of all")
        if (input_ids is None) == (inputs_embeds is None):
            both = "neither" if input_ids is None else "both"
            raise ValueError(f"one of input_ids and inputs_embeds must be given, got {both}")
        # `TextEncoder` in parts: given embeddings are scaled as its own, and hidden states are returned.
        embedded = self.backbone.embedding(input_ids) if inputs_embeds is None else inputs_embeds
        encoder: Any = self.backbone.encoder
        x, mask = embedded * self.backbone.dim**0.5, _bool_mask(attention_mask)
        states = encoder.hidden_states(x, mask, every=bool(every))
        return BaseModelOutput(last_hidden_state=states[-1], hidden_states=tuple(states) if every else None)


class SoftformerForMaskedLM(SoftformerPreTrainedModel):
    """A `SoftformerModel` that predicts the token at each place; its output layer is tied to the token embeddings.

    Args:
        config: Options of the network.
    """

    _tied_weights_keys = {"decoder.weight": "softformer.backbone.embedding.weight"}  # noqa: RUF012

    def __init__(self, config: SoftformerConfig) -> None:
        super().__init__(config)
        self.softformer = SoftformerModel(config)
        self.lm_head = MaskedLanguageHead(config.hidden_size, config.vocab_size)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Linear:
        """The output layer without its bias, which is the head's."""
        return self.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the output layer."""
        self.decoder = new_embeddings

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Embedding:
        """Change the number of tokens, here and in the output layer; the bias of new tokens is zero."""
        embedding = super().resize_token_embeddings(*args, **kwargs)
        bias = self.lm_head.bias
        bias.data = F.pad(bias.data, (0, embedding.num_embeddings - len(bias)))
        return embedding

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **loss_options: Any,
    ) -> MaskedLMOutput:
        """Logits of all tokens (B, N, V), and the loss where there are labels (B, N), -100 at tokens that do not count.

        Other arguments are those of `SoftformerModel.forward`, and options of transformers' loss: ignore_index, and
        num_items_in_batch, by which the loss is divided; a TypeError for others.
        """
        if unknown := [name for name in loss_options if name not in _LOSS_OPTIONS]:
            raise TypeError(f"arguments must be the named ones or {', '.join(_LOSS_OPTIONS)}, got {', '.join(unknown)}")
        returned = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
        outputs = self.softformer(input_ids, attention_mask, inputs_embeds=inputs_embeds, return_dict=True, **returned)
        logits = self.lm_head(outputs.last_hidden_state, self.decoder.weight)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=logits.shape[-1], **loss_options)
        return MaskedLMOutput(loss=loss, logits=logits, hidden_states=outputs.hidden_states)


class SoftformerForSequenceClassification(SoftformerPreTrainedModel):
    """A `SoftformerModel`, a pooling over real tokens, dropout and a linear layer.

    Args:
        config: Options of the network; ``num_labels`` or ``id2label`` say how many classes there are.
    """

    def __init__(self, config: SoftformerConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.softformer = SoftformerModel(config)
        self.pooling = Pooling(config.pooling, config.hidden_size)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> SequenceClassifierOutput:
        """Logits (B, K), and the loss where there are labels; other arguments as in `SoftformerModel.forward`.

        Labels are class numbers (B,), zeros and ones (B, K), or targets of a regression, by config.problem_type, which
        transformers infers from the labels where it is None.
        """
        mask = _bool_mask(attention_mask)
        returned = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
        outputs = self.softformer(input_ids, mask, inputs_embeds=inputs_embeds, return_dict=True, **returned)
        pooled = self.pooling(outputs.last_hidden_state, mask)
        logits = self.classifier(self.dropout(pooled))
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=outputs.hidden_states)


def _bool_mask(attention_mask: Tensor | None) -> Tensor | None:
    """The padding mask of transformers, 1 at real tokens, as a bool mask; a ValueError for a mask of another kind."""
    if attention_mask is None or (attention_mask.ndim == 2 and attention_mask.dtype == torch.bool):
        return attention_mask
    if attention_mask.ndim != 2:
        raise ValueError(
            "attention_mask must have the shape (batch, tokens), with 1 or True at real tokens and 0 or False at "
            f"padding, got {tuple(attention_mask.shape)}; give the attention_mask of the tokenizer"
        )
    # A graph cannot depend on values.
    if not (torch.compiler.is_compiling() or torch.jit.is_tracing() or attention_mask.is_meta):
        other = attention_mask[(attention_mask != 0) & (attention_mask != 1)]
        if other.numel():
            raise ValueError(
                "attention_mask must be 1 or True at real tokens and 0 or False at padding, got "
                f"{other[0].item():g}; give the attention_mask of the tokenizer, not one that is added to scores"
            )
    return attention_mask.bool()


def register() -> None:
    """Make the Auto classes know the models; a second call changes nothing. Importing this module calls it."""
    AutoConfig.register(SoftformerConfig.model_type, SoftformerConfig, exist_ok=True)
    AutoModel.register(SoftformerConfig, SoftformerModel, exist_ok=True)
    AutoModelForMaskedLM.register(SoftformerConfig, SoftformerForMaskedLM, exist_ok=True)
    AutoModelForSequenceClassification.register(SoftformerConfig, SoftformerForSequenceClassification, exist_ok=True)


register()
