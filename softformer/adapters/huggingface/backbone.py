"""Any encoder of transformers as the backbone of a text network."""

from typing import Any

from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

import softformer.adapters.huggingface.models  # noqa: F401  (registers our own models)
from softformer.models.text import TextBackbone


class AutoBackbone(TextBackbone):
    """Ids (B, N) to the last hidden states (B, N, C) of a transformers model, with its parameters in float32.

    A pooling layer over the first token, as BERT has, is left out: nothing here would train it.

    Args:
        name_or_path: Model on the hub, or a local folder.
        pretrained: Whether to load its weights, or only its configuration.

    Raises:
        ValueError: It has a decoder, or its configuration has no hidden_size.
        OSError: There is no such model.
    """

    def __init__(self, name_or_path: str, *, pretrained: bool) -> None:
        super().__init__()
        if pretrained:
            self.model: Any = AutoModel.from_pretrained(name_or_path)
        else:
            self.model = AutoModel.from_config(AutoConfig.from_pretrained(name_or_path))
        config = self.model.config
        if config.is_encoder_decoder or not isinstance(getattr(config, "hidden_size", None), int):
            raise ValueError(
                f"name_or_path must be an encoder, such as BERT, whose configuration has a hidden_size; got "
                f"{name_or_path!r}, a {config.model_type}"
            )
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None
        # from_pretrained returns it in its stored type and in evaluation mode.
        self.model.float().train()
        self.dim = config.hidden_size
        self._most_tokens = _num_positions(self.model)
        self._takes_types = getattr(config, "type_vocab_size", 0) > 1

    @property
    def token_weight(self) -> Tensor:
        """The vectors of the tokens, (V, C)."""
        return self.model.get_input_embeddings().weight

    def forward(self, ids: Tensor, mask: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """Hidden states (B, N, C); a ValueError for more tokens than the model has positions."""
        if self._most_tokens is not None and ids.shape[1] > self._most_tokens:
            raise ValueError(
                f"ids has {ids.shape[1]} tokens, but the model has positions for {self._most_tokens}: cut the texts "
                f"(--data.max_length {self._most_tokens})"
            )
        options = {"token_type_ids": types} if types is not None and self._takes_types else {}
        mask = None if mask is None else mask.long()
        return self.model(input_ids=ids, attention_mask=mask, **options).last_hidden_state


def _num_positions(model: Any) -> int | None:
    """Most tokens of a model with learned positions; None for other models."""
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    if not isinstance(table, nn.Embedding):
        return None
    # The positions of tokens come after that of the padding, if there is one.
    return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
