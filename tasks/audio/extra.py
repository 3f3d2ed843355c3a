"""The libraries of the extra ``audio``: whatever needs them takes them from here, so that one place says what to do."""

_EXTRA = "softformer[audio]"

try:
    import soundfile as soundfile
    import torchaudio as torchaudio
except (ImportError, OSError, RuntimeError) as error:
    # Beside what is not installed: soundfile without the library it stands on, torchaudio beside another torch.
    raise ImportError(f"the audio tasks need the extra: pip install '{_EXTRA}' ({error})", name=_EXTRA) from error
