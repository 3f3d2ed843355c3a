"""The data module of texts: tokens with classes, or with masks for masked language modelling."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
from torch.utils.data import DataLoader

from tasks.data.examples import Examples, OnBad, Split
from tasks.data.labelled import LabelledDataModule
from tasks.data.length_batches import RowCosts
from tasks.data.module import Role
from tasks.data.sources import choose_split
from tasks.data.streams import StreamExamples
from tasks.text.augment import TokenDropout
from tasks.text.built_in.listops import listops, listops_512
from tasks.text.built_in.lra_image import lra_image
from tasks.text.collating import TextCollator, TokenMasking, TokenReader
from tasks.text.files import check_texts, text_rows
from tasks.text.processor import TextProcessor
from tasks.text.tokenized import Tokenize, TokenizedExamples
from tasks.text.tokens.learned import learned_settings
from tasks.text.tokens.tokenizers import BytesSpec, TokenizerSpec, tokenizer_settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LongTexts = Literal["cut", "split", "join"]


class TextDataModule(LabelledDataModule):
    """Texts from anything that `datasets.load_dataset` reads, and files of texts to predict.

    Texts become tokens before training, cached by `datasets`; streamed texts become tokens as they are read.

    A batch contains ids (B, N) int64, padded to its longest text; mask (B, N) bool, True at real tokens; and index
    (B,), the row numbers. With labels it contains label, (B,) int64, or (B, K) float32 of zeros and ones where a row
    has a list of labels. Without labels it contains target (B, N) int64, the tokens that were masked, and -100
    elsewhere. Pairs of texts have types (B, N) int64 if the tokenizer has token types. A batch of texts to predict also
    contains the lists text and, of pairs, text_pair.

    Args:
        path: hub name, local folder, a format of local files (parquet, csv, json, text, ...), or a built-in data set:
            "listops", "listops/512", or "lra/image".
        text_column: column of the texts.
        text_pair_column: column of second texts, where rows are pairs.
        label_column: column of the labels: class labels, whole numbers or strings, or lists of these. None (null) for
            masked language modelling.
        tokenizer: BytesSpec or CodePointsSpec; CharactersSpec, WordsSpec, or BpeSpec, which learn from the training
            split (of a stream, from its first 10,000 rows); or AutoTokenizerSpec. Not used with a given processor.
        max_length: maximum number of tokens of a text, special tokens included; the log counts the longer texts. None:
            that of the processor, or 512.
        long_texts: "cut" cuts off the end of a longer text; where there are no labels, "split" makes several rows of
            it, and "join" joins neighboring rows, 128 at a time with newlines between, and then makes rows: for files
            whose lines are one long text.
        mask_probability: share of the tokens that masked language modelling masks.
        token_dropout: probability of dropping a token when a classifier trains on its text, drawn again in each
            epoch: against overfitting to a small training split.
        max_tokens: maximum number of tokens of a batch, padding included; batch_size is then its maximum of rows.
        group_by_length: put texts of similar length in a batch, in training and in evaluation.
        texts: texts to predict: a .txt file with a text in each line, a table (.csv, .tsv, .json, .jsonl, .parquet)
            with text_column, a folder or a pattern of such files, or a list of these.
        on_bad_text: at a text that is missing, empty, or not a text, "error" stops and names it; "skip" leaves it out
            and counts it (`skipped`).
        num_proc: processes that turn texts into tokens before training.
        batch_size: rows in a batch on one device.
        processor: the processor of a trained task, whose tokenizer and classes are used. By default the data makes its
            own.
        kwargs: as in `LabelledDataModule` and `TaskDataModule`.
    """

    built_in: ClassVar = {"listops": listops, "listops/512": listops_512, "lra/image": lra_image}
    on_bad_argument: ClassVar[str] = "on_bad_text"

    def __init__(
        self,
        path: str,
        *,
        text_column: str = "text",
        text_pair_column: str | None = None,
        label_column: str | None = "label",
        tokenizer: TokenizerSpec = BytesSpec(),  # noqa: B008  (never changes; jsonargparse reads it here)
        max_length: int | None = None,
        long_texts: LongTexts = "cut",
        mask_probability: float = 0.15,
        token_dropout: float = 0.0,
        max_tokens: int | None = None,
        group_by_length: bool = True,
        texts: str | list[str] | None = None,
        on_bad_text: OnBad = "error",
        num_proc: int = 1,
        batch_size: int = 32,
        processor: TextProcessor | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            path, label_column=label_column, on_bad=on_bad_text, batch_size=batch_size, processor=processor, **kwargs
        )
        for argument, value in {"max_length": max_length, "max_tokens": max_tokens, "num_proc": num_proc}.items():
            if value is not None and value < 1:
                raise ValueError(f"{argument} must be a whole number of at least 1, got {value}")
        if not 0 < mask_probability < 1:
            raise ValueError(f"mask_probability must be a share of the tokens in (0, 1), got {mask_probability}")
        if not 0 <= token_dropout < 1:
            raise ValueError(f"token_dropout must be a probability in [0, 1), got {token_dropout}")
        if token_dropout > 0 and label_column is None:
            raise ValueError(
                f"token_dropout must be 0 without a label_column, got {token_dropout}; masked language modelling masks "
                "tokens instead (mask_probability)"
            )
        if long_texts not in get_args(LongTexts):
            raise ValueError(f"long_texts must be 'cut', 'split', or 'join', got {long_texts!r}")
        if long_texts != "cut" and (label_column is not None or text_pair_column is not None):
            raise ValueError(
                f"long_texts must be 'cut' where texts have labels or second texts, which belong to the whole text, "
                f"got {long_texts!r}; set it to 'cut', or label_column to null and leave text_pair_column out"
            )
        if max_tokens is not None and self.source.streaming:
            raise ValueError(
                f"max_tokens must be null with streaming, as the lengths of streamed texts are not known, got "
                f"{max_tokens}; choose batch_size so that batch_size times max_length tokens fit into memory"
            )
        self.text_columns = {"text_column": text_column}
        if text_pair_column is not None:
            self.text_columns["text_pair_column"] = text_pair_column
        self.tokenizer_spec = tokenizer
        self.max_length = max_length
        self.long_texts = long_texts
        self.mask_probability = mask_probability
        self.token_dropout = token_dropout
        self.max_tokens = max_tokens
        self.group_by_length = group_by_length
        self.texts = texts
        self.num_proc = num_proc

    @property
    def task(self) -> Literal["classification", "masked"]:
        """What the batches are for."""
        return "masked" if self.label_column is None else "classification"

    @cached_property
    def processor(self) -> TextProcessor:
        """The processor of the texts; a given one with the max_length of this module."""
        if self.given_processor is not None:
            return self.prediction_processor
        return self.prediction_processor.replace(class_names=self.class_names, multi_label=self.multi_label)

    @cached_property
    def prediction_processor(self) -> TextProcessor:
        """The processor of texts to predict: without classes if the data makes it, as these would have to be read."""
        options: dict[str, Any] = {} if self.max_length is None else {"max_length": self.max_length}
        if self.given_processor is not None:
            return self.given_processor.replace(**options)
        return TextProcessor(self._own_tokenizer, pairs=len(self.text_columns) == 2, **options)

    @property
    def tokenizer(self) -> "PreTrainedTokenizerFast":
        """The tokenizer."""
        return self.processor.tokenizer

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return self.processor.vocab_size

    @cached_property
    def _own_tokenizer(self) -> dict[str, Any]:
        if not self.tokenizer_spec.learns:
            return tokenizer_settings(self.tokenizer_spec.build([]))
        if self.source.streaming:
            rows = choose_split(self.source, self.splits, "train_split", self.train_split)
            self._check_columns(rows.features or self.features, self.train_split)
            self._check_texts(rows)
        else:
            rows = self.split_for("train").rows
        return learned_settings(self.tokenizer_spec, rows, list(self.text_columns.values()))

    def write_run_files(self, folder: Path) -> None:
        """Write the tokenizer into the folder "tokenizer", from which `transformers.AutoTokenizer` reads it."""
        self.processor.tokenizer.save_pretrained(str(folder / "tokenizer"))

    # Methods of the base that a domain defines.

    def columns(self) -> dict[str, str]:
        return self.text_columns | ({} if self.label_column is None else {"label_column": self.label_column})

    def prepare_rows(self, rows: Any) -> Any:
        """A split whose columns hold texts; a streamed split with tokens instead of texts."""
        self._check_texts(rows)
        if not self.source.streaming:
            return rows
        features = {column: self.features[column] for column in self.columns().values()}
        tokenize = self._tokenize()
        return rows.map(tokenize, **tokenize.map_options(rows.features or features))

    def _check_texts(self, rows: Any) -> None:
        for argument, column in self.text_columns.items():
            check_texts(argument, column, (rows.features or self.features)[column])

    def _tokenize(self) -> Tokenize:
        split, join = self.long_texts != "cut", self.long_texts == "join"
        return self.processor.tokenize(list(self.text_columns.values()), split=split, join=join)

    def reader(self, role: Role) -> TokenReader:
        return TokenReader(self.labels)

    def collator(self, role: Role) -> TextCollator:
        """Pads; masks tokens if there are no labels; in training drops tokens."""
        settings = self.processor.settings
        masking = dropout = None
        if role == "train" and self.token_dropout > 0:
            dropout = TokenDropout(settings, self.token_dropout, self.seed)
        if self.task == "masked":
            if self.processor.tokenizer.mask_token_id is None:
                raise ValueError(
                    "tokenizer must have a mask token for masked language modelling, got one without; choose another, "
                    "or BytesSpec, CharactersSpec, WordsSpec, or BpeSpec"
                )
            masking = TokenMasking(settings, self.mask_probability, self.seed if role == "train" else None)
        return TextCollator(self.processor.pad, labels=self.labels, masking=masking, dropout=dropout)

    def map_examples(self, role: Role, split: Split) -> Examples:
        return self._tokenized(split, self._tokenize(), self.reader(role), self.collator(role))

    def _tokenized(self, texts: Split, *parts: Any) -> TokenizedExamples:
        return TokenizedExamples(texts, *parts, num_proc=self.num_proc, on_bad=self.on_bad, remedy=self.remedy)

    def row_costs(self, examples: Examples | StreamExamples) -> RowCosts | None:
        if not isinstance(examples, TokenizedExamples):
            return None  # a stream, whose lengths are not known
        return RowCosts(examples.lengths, self.max_tokens, self.group_by_length, argument="max_tokens")

    def prepare_data(self) -> None:
        """Download, learn the tokenizer, and turn texts into tokens on one process, for the cache of the others."""
        super().prepare_data()
        if self.trainer is not None and self.trainer.state.fn == "fit":
            self.setup("fit")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches of the texts to predict."""
        if self.texts is None:
            raise ValueError(
                "texts must be files of texts to predict, got None; give them by --data.texts FILE (.txt, .csv, .json, "
                "or .parquet)"
            )
        processor, columns = self.prediction_processor, list(self.text_columns.values())
        tokenize = processor.tokenize(columns, keep=True)
        rows = text_rows(self.texts, columns)
        texts = Split("texts", rows, np.arange(len(rows)))
        parts = tokenize, TokenReader(None, columns), TextCollator(processor.pad)
        self._examples["predict"] = self._tokenized(texts, *parts)
        return self._eval_loader("predict")
