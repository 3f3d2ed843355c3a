"""Checkpoints of earlier versions: the class paths that they hold, in today's names."""

from typing import Any

# Modules whose classes earlier versions named by file, and the packages under which those classes are public.
_PUBLIC = {
    "softformer.models.audio_augment": "softformer.models.audio",
    "softformer.models.audio_windows": "softformer.models.audio",
    "softformer.models.sequence": "softformer",
    "softformer.ops.inverse": "softformer",
    "softformer.training.encoders": "softformer.training",
    "softformer.training.text_encoders": "softformer.training",
    "tasks.audio.classifier": "tasks.audio",
    "tasks.audio.data": "tasks.audio",
    "tasks.audio.features": "tasks.audio",
    "tasks.audio.recognizer": "tasks.audio",
    "tasks.audio.speech_data": "tasks.audio",
    "tasks.audio.units": "tasks.audio",
    "tasks.audio.writing": "tasks.audio",
    "tasks.image.classifier": "tasks.image",
    "tasks.image.data": "tasks.image",
    "tasks.text.classifier": "tasks.text",
    "tasks.text.data": "tasks.text",
    "tasks.text.masked": "tasks.text",
    "tasks.text.tokenizers": "tasks.text",
}
_PATHS = ("class_path", "_class_path")


def with_public_paths(value: Any) -> Any:
    """A copy of plain values in which each class path of an earlier version is the public one."""
    if isinstance(value, list):
        return [with_public_paths(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _public(entry) if key in _PATHS and isinstance(entry, str) else with_public_paths(entry)
        for key, entry in value.items()
    }


def _public(path: str) -> str:
    module, _, name = path.rpartition(".")
    return f"{_PUBLIC.get(module, module)}.{name}"
