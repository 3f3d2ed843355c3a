"""The libraries of the extra ``audio``, imported here alone, so that one message says how to install them."""

from tasks.command.errors import AUDIO_EXTRA

try:
    import soundfile as soundfile
    import torchaudio as torchaudio
    from rapidfuzz.distance.Levenshtein import distance as edit_distance  # noqa: F401
except (ImportError, OSError, RuntimeError) as error:
    # soundfile fails without libsndfile, and torchaudio beside a torch that was built for another CUDA.
    raise ImportError(
        f"the audio tasks need the extra: pip install '{AUDIO_EXTRA}' ({error})", name=AUDIO_EXTRA
    ) from error
