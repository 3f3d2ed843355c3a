"""The libraries of the extra ``audio``, imported here alone, so that one message says how to install them."""

_EXTRA = "softformer[audio]"

try:
    import soundfile as soundfile
    import torchaudio as torchaudio
    from rapidfuzz.distance.Levenshtein import distance as edit_distance  # noqa: F401
except (ImportError, OSError, RuntimeError) as error:
    # soundfile fails without libsndfile, and torchaudio with a torch that was built for another CUDA.
    raise ImportError(f"the audio tasks need the extra: pip install '{_EXTRA}' ({error})", name=_EXTRA) from error
