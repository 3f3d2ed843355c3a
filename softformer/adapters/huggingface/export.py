"""A checkpoint of a text task as a folder that transformers reads: configuration, weights and tokenizer.

    python -m softformer.adapters.huggingface.export runs/NAME/checkpoints/best.ckpt FOLDER

After ``import softformer.adapters.huggingface`` the Auto classes and pipelines of transformers take the folder.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from softformer.adapters.huggingface.config import options_of_encoder
from softformer.adapters.huggingface.models import (
    SoftformerConfig,
    SoftformerForMaskedLM,
    SoftformerForSequenceClassification,
    SoftformerPreTrainedModel,
)
from softformer.models.checkpoint_keys import ARGUMENTS_KEY, CLASS_KEY, INPUT_SETTINGS_KEY, PROCESSOR_KEY, STATE_KEY
from softformer.models.text_names import CLASSIFIER, MASKED, renamed
from softformer.models.weight_files import read_weight_file

_ENCODER = "SoftEncoderSpec"
_EMBEDDING = "softformer.backbone.embedding.weight"


def export_checkpoint(
    checkpoint: str | os.PathLike[str], folder: str | os.PathLike[str]
) -> tuple[SoftformerPreTrainedModel, PreTrainedTokenizerFast | None]:
    """Write the model and the tokenizer of a task's checkpoint into a folder for ``from_pretrained``.

    Args:
        checkpoint: File written by a run of TextClassifier or MaskedLanguageModel with a SoftEncoderSpec.
        folder: A new or an empty one.

    Returns:
        The model in evaluation mode, whose outputs are the task's; and its tokenizer, None where there is none.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: It is not one of these tasks, or the folder is in use.
    """
    target = Path(folder).expanduser()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"folder must be a new or an empty one, got {target}, which is in use")
    content = read_weight_file(checkpoint, kind="checkpoint")
    tokenizer = tokenizer_of(content)
    model = model_of(content)
    if tokenizer is not None:
        model.config.pad_token_id = tokenizer.pad_token_id
        tokenizer.save_pretrained(target)
    model.save_pretrained(target)
    return model, tokenizer


def model_of(content: Mapping[str, Any]) -> SoftformerPreTrainedModel:
    """The model of a task's checkpoint in evaluation mode; a ValueError for another task or encoder."""
    hyperparameters = content.get(ARGUMENTS_KEY) or {}
    task = _last_name(hyperparameters.get(CLASS_KEY))
    if STATE_KEY not in content or task not in ("TextClassifier", "MaskedLanguageModel"):
        raise ValueError(
            f"checkpoint must be one of TextClassifier or MaskedLanguageModel, got {task or 'none of our tasks'}"
        )
    encoder = hyperparameters.get("encoder") or {}
    if _last_name(encoder.get("class_path")) != _ENCODER:
        raise ValueError(
            f"checkpoint must have the encoder {_ENCODER}, got {encoder.get('class_path')}; an encoder of transformers "
            "has a save_pretrained of its own, and others have no place in the Auto classes"
        )
    masked = task == "MaskedLanguageModel"
    # Metrics and the weights of the loss are not part of the network.
    network = renamed(content[STATE_KEY], {"network.": ""})
    state = renamed(network, MASKED if masked else CLASSIFIER)
    if _EMBEDDING not in state:
        raise ValueError("checkpoint must have the weights of token embeddings, got a state_dict without them")
    options = {**options_of_encoder(encoder.get("init_args") or {}), "vocab_size": state[_EMBEDDING].shape[0]}
    model: SoftformerPreTrainedModel
    if masked:
        model = SoftformerForMaskedLM(SoftformerConfig(**options))
        state["decoder.weight"] = state[_EMBEDDING]
    else:
        model = SoftformerForSequenceClassification(
            SoftformerConfig(**options, **_classifier_options(hyperparameters, _processor(content), state))
        )
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"checkpoint: its weights do not fit its hyperparameters: {error}") from error
    return model.eval()


def tokenizer_of(content: Mapping[str, Any]) -> PreTrainedTokenizerFast | None:
    """The tokenizer of a task's checkpoint, which truncates as the task does; None if it has none."""
    settings = _processor(content)
    description = settings.get("tokenizer")
    if description is None:
        return None
    length = settings.get("max_length")
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(description["json"]),
        padding_side="right",
        clean_up_tokenization_spaces=False,
        **description["special_tokens"],
        **({} if "model_input_names" not in description else {"model_input_names": description["model_input_names"]}),
        **({} if length is None else {"model_max_length": length}),
    )


def _processor(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments of the processor in a checkpoint; version 0.1 stored them as its input settings."""
    described = (content.get(ARGUMENTS_KEY) or {}).get("processor") or content.get(PROCESSOR_KEY)
    return described["init_args"] if described else content.get(INPUT_SETTINGS_KEY) or {}


def _classifier_options(
    hyperparameters: Mapping[str, Any], settings: Mapping[str, Any], state: Mapping[str, Any]
) -> dict[str, Any]:
    """Classes and pooling as a configuration has them; unnamed classes have their numbers as names."""
    count = state["classifier.weight"].shape[0]
    names = settings.get("class_names") or [str(number) for number in range(count)]
    if len(names) != count:
        raise ValueError(f"checkpoint must have {count} names of classes, got {len(names)}")
    multi_label = settings.get("multi_label") or hyperparameters.get("multi_label", False)
    return {
        "pooling": hyperparameters.get("pooling", "mean"),
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
        "problem_type": "multi_label_classification" if multi_label else "single_label_classification",
    }


def _last_name(path: str | None) -> str:
    return str(path or "").rpartition(".")[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m softformer.adapters.huggingface.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path, help="checkpoint of a TextClassifier or a MaskedLanguageModel")
    parser.add_argument("folder", type=Path, help="new or empty folder for configuration, weights and tokenizer")
    options = parser.parse_args(arguments)
    try:
        model, tokenizer = export_checkpoint(options.checkpoint, options.folder)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    extent = "with its tokenizer" if tokenizer is not None else "without a tokenizer: the checkpoint holds none"
    print(f"{type(model).__name__}, {model.num_parameters():,} parameters, is in {options.folder}, {extent}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
