"""Checkpoints of earlier versions: class paths in today's names, and options that they lack."""

from typing import Any

from softformer.models.checkpoint_keys import CLASS_KEY, INPUT_SETTINGS_KEY

# Modules by which earlier versions named classes, and the packages under which these classes are public.
_PUBLIC = {
    **dict.fromkeys(("softformer.models.audio_augment", "softformer.models.audio_windows"), "softformer.models.audio"),
    **dict.fromkeys(("softformer.models.sequence", "softformer.ops.inverse"), "softformer"),
    **dict.fromkeys(("softformer.training.encoders", "softformer.training.text_encoders"), "softformer.training"),
    **{
        f"tasks.{domain}.{file}": f"tasks.{domain}"
        for domain, files in {
            "audio": ("classifier", "data", "features", "recognizer", "speech_data", "units", "writing"),
            "image": ("classifier", "data"),
            "text": ("classifier", "data", "masked", "tokenizers"),
        }.items()
        for file in files
    },
}
# Version 0.1 stored plain settings, each domain with a key of its own.
_PROCESSORS = {
    "image_size": "tasks.image.ImageProcessor",
    "tokenizer": "tasks.text.TextProcessor",
    "sample_rate": "tasks.audio.AudioProcessor",
}
# Options that earlier versions lacked, with the values that do what these versions did.
_ADDED = {"tasks.audio.FeatureSpec": {"top_db": None}}
_PATHS = ("class_path", CLASS_KEY)


def with_public_paths(value: Any) -> Any:
    """A copy of plain values in today's class paths, with the options that an earlier version lacked."""
    if isinstance(value, list):
        return [with_public_paths(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    plain: dict[str, Any] = {
        key: _public(entry) if key in _PATHS and isinstance(entry, str) else with_public_paths(entry)
        for key, entry in value.items()
    }
    if added := _ADDED.get(plain.get("class_path", "")):
        plain["init_args"] = {**added, **plain.get("init_args", {})}
    return plain


def earlier_processor(checkpoint: dict[str, Any]) -> dict[str, Any] | None:
    """The processor of a checkpoint of version 0.1, as ``{"class_path", "init_args"}``; None without one."""
    settings = checkpoint.get(INPUT_SETTINGS_KEY) or {}
    found = next((path for key, path in _PROCESSORS.items() if key in settings), None)
    return None if found is None else {"class_path": found, "init_args": settings}


def _public(path: str) -> str:
    module, _, name = path.rpartition(".")
    return f"{_PUBLIC.get(module, module)}.{name}"
