"""Any encoder of transformers as the backbone of a text network."""

from typing import Any

from torch import Tensor
from transformers import AutoConfig, AutoModel

import softformer.adapters.huggingface  # noqa: F401  (registers our own models)
from softformer.models.text import TextBackbone


class AutoBackbone(TextBackbone):
    """Ids (B, N) to the last hidden states (B, N, C) of a transformers model.

    Args:
        name_or_path: Model on the hub, or a local folder.
        pretrained: Whether to load its weights, or only its configuration.

    Raises:
        ValueError: It is no encoder that gives hidden states of one width.
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
        self.dim = config.hidden_size
        self._takes_types = getattr(config, "type_vocab_size", 0) > 1

    @property
    def token_weight(self) -> Tensor:
        """The vectors of the tokens, (V, C)."""
        return self.model.get_input_embeddings().weight

    def forward(self, ids: Tensor, mask: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """Hidden states (B, N, C)."""
        more = {"token_type_ids": types} if types is not None and self._takes_types else {}
        attended = None if mask is None else mask.long()
        return self.model(input_ids=ids, attention_mask=attended, **more).last_hidden_state
