"""Audio tasks: classification, speech recognition, and the data modules that feed them; they need the extra audio."""

import tasks.audio.extra  # noqa: F401  (first, as it says what to do where the libraries are missing)
from tasks.audio.classifier import AudioClassifier as AudioClassifier
from tasks.audio.data import AudioDataModule as AudioDataModule
from tasks.audio.features import FeatureSpec as FeatureSpec
from tasks.audio.processor import AudioProcessor as AudioProcessor
from tasks.audio.recognizer import SpeechRecognizer as SpeechRecognizer
from tasks.audio.speech.normalization import Writing as Writing
from tasks.audio.speech.units import BpeUnits as BpeUnits
from tasks.audio.speech.units import CharacterUnits as CharacterUnits
from tasks.audio.speech.units import FileUnits as FileUnits
from tasks.audio.speech.units import UnitsSpec as UnitsSpec
from tasks.audio.speech_data import SpeechDataModule as SpeechDataModule
