"""Text tasks: classification, masked language modelling, and the data module that feeds them."""

from tasks.text.classifier import TextClassifier as TextClassifier
from tasks.text.data import TextDataModule as TextDataModule
from tasks.text.masked import MaskedLanguageModel as MaskedLanguageModel
from tasks.text.processor import TextProcessor as TextProcessor
from tasks.text.tokens.tokenizers import AutoTokenizerSpec as AutoTokenizerSpec
from tasks.text.tokens.tokenizers import BpeSpec as BpeSpec
from tasks.text.tokens.tokenizers import BytesSpec as BytesSpec
from tasks.text.tokens.tokenizers import CharactersSpec as CharactersSpec
from tasks.text.tokens.tokenizers import CodePointsSpec as CodePointsSpec
from tasks.text.tokens.tokenizers import TokenizerSpec as TokenizerSpec
from tasks.text.tokens.tokenizers import WordsSpec as WordsSpec
