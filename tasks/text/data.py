"""Texts for the text tasks: their tokens, with classes, or with gaps for masked language modelling."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import datasets
from torch.utils.data import DataLoader

from tasks.data.examples import Examples, OnBad, Split
from tasks.data.labelled import LabelledDataModule
from tasks.data.length_batches import RowCosts
from tasks.data.loaders import DEFAULT_LOADING, Loading, eval_loader
from tasks.data.module import Role
from tasks.data.sources import DataFiles, choose_split
from tasks.data.streams import StreamExamples
from tasks.text.augment import TokenDropout
from tasks.text.built_in.listops import listops, listops_512
from tasks.text.collating import Gaps, TextCollator, TokenReader
from tasks.text.files import check_texts, text_files
from tasks.text.tokenized import Tokenize, TokenizedExamples, tokenized
from tasks.text.tokens.learned import learned_settings
from tasks.text.tokens.tokenizers import BytesSpec, TokenizerSpec, tokenizer_from, tokenizer_settings, vocabulary_size

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LongTexts = Literal["cut", "split", "join"]

_MAX_LENGTH = 512


class TextDataModule(LabelledDataModule):
    """Texts from anything that `datasets.load_dataset` reads, and files of texts to be predicted.

    Texts become tokens once, before training, and are kept in the cache of `datasets`; those of a stream become tokens
    as they are read. A task that was trained before is evaluated with its own tokenizer, whatever `tokenizer` says, and
    a row has the class of the task that bears the name of its label.

    A batch holds ids (B, N) int64, padded to its longest text, mask (B, N) bool, True at real tokens, and index (B,),
    the row number; label (B,) int64 or, where a row has several, (B, K) float32 of zeros and ones; without labels
    target (B, N) int64, the tokens that are asked for and -100 elsewhere; of pairs types (B, N) int64, where the
    tokenizer gives them. A batch of texts to predict holds ids, mask, types, index, and text, the texts themselves,
    with text_pair where they are pairs.

    Args:
        path: hub name, local folder, a format of local files (parquet, csv, json, text, ...), or "listops" or
            "listops/512".
        name: configuration of the data set.
        data_dir: folder of the files.
        data_files: files, or files by split: --data.data_files.train train.parquet.
        streaming: read while training, without a prepared copy; needs --trainer.max_steps. Batches are then not grouped
            by length.
        train_split: split to train on; slices such as "train[:90%]" are possible.
        val_split: split to validate on. None: the one called validation (valid, val, dev), or else a part of train.
        test_split: split to test on.
        val_fraction: share of the training split that validates where there is no validation split; 0 for none.
        text_column: column of the texts; or of pictures, which then are the sequence of their grey pixels, row by row,
            each a character from U+2800 on.
        text_pair_column: column of second texts, where rows are pairs.
        label_column: column of the labels: class labels, whole numbers or strings, or lists of these. None (null) for
            masked language modelling.
        class_names: names of the classes where the data has none; without them they are found in the training split.
        tokenizer: BytesSpec; CharactersSpec, WordsSpec or BpeSpec, which learn from the training split (of a stream,
            from its first 10,000 rows); or AutoTokenizerSpec.
        max_length: most tokens of a text, special ones included; the log counts the longer ones. None: 512, or as the
            task that is evaluated was trained.
        long_texts: "cut" leaves the end of a longer text out; where there are no labels, "split" makes several rows of
            it, and "join" puts neighbours together, by the 128 with newlines between, and then makes rows: for files
            whose lines are one long text.
        mask_probability: share of the tokens that masked language modelling asks for.
        token_dropout: probability of a token to be left out when a classifier trains on its text, drawn anew in each
            epoch: against learning a small training split by heart.
        max_tokens: most tokens of a batch, padding included; batch_size is then its most rows.
        group_by_length: put texts of similar length in a batch, in training and in evaluation.
        texts: texts to predict: a .txt file with a text in each line, a table (.csv, .tsv, .json, .jsonl, .parquet)
            with text_column, a folder or a pattern of such files, or a list of these.
        on_bad_text: at a text that is missing, empty or no text, "error" stops and names it; "skip" leaves it out and
            counts it (`skipped`).
        num_proc: processes that turn texts into tokens before training.
        batch_size: texts in a batch on one device.
        num_workers: processes that read batches; 0 reads in the main process.
        seed: decides the order, the gaps and the validation part.
        loading: workers and shuffling in detail.
    """

    built_in: ClassVar = {"listops": listops, "listops/512": listops_512}
    on_bad_argument: ClassVar[str] = "on_bad_text"

    def __init__(
        self,
        path: str,
        *,
        name: str | None = None,
        data_dir: str | None = None,
        data_files: DataFiles | None = None,
        streaming: bool = False,
        train_split: str = "train",
        val_split: str | None = None,
        test_split: str = "test",
        val_fraction: float = 0.1,
        text_column: str = "text",
        text_pair_column: str | None = None,
        label_column: str | None = "label",
        class_names: list[str] | None = None,
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
        num_workers: int = 0,
        seed: int = 0,
        loading: Loading = DEFAULT_LOADING,
    ) -> None:
        super().__init__(
            path,
            name=name,
            data_dir=data_dir,
            data_files=data_files,
            streaming=streaming,
            train_split=train_split,
            val_split=val_split,
            test_split=test_split,
            val_fraction=val_fraction,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
            on_bad=on_bad_text,
            loading=loading,
        )
        for argument, value in (("max_length", max_length), ("max_tokens", max_tokens), ("num_proc", num_proc)):
            if value is not None and value < 1:
                raise ValueError(f"{argument}: expected a whole number of at least 1, got {value}")
        if not 0 < mask_probability < 1:
            raise ValueError(f"mask_probability: expected a share of the tokens in (0, 1), got {mask_probability}")
        if not 0 <= token_dropout < 1:
            raise ValueError(f"token_dropout: expected a probability in [0, 1), got {token_dropout}")
        if token_dropout > 0 and label_column is None:
            raise ValueError(
                "token_dropout: expected 0 without a label_column: masked language modelling makes gaps instead "
                "(mask_probability)"
            )
        if long_texts not in get_args(LongTexts):
            raise ValueError(f"long_texts: expected 'cut', 'split' or 'join', got {long_texts!r}")
        if long_texts != "cut" and (label_column is not None or text_pair_column is not None):
            raise ValueError(
                f"long_texts={long_texts!r}: a label, or a second text, belongs to a text as a whole; expected 'cut', "
                "or no label_column (null) and no text_pair_column"
            )
        if max_tokens is not None and streaming:
            raise ValueError(
                "max_tokens: the lengths of streamed texts are not known beforehand; leave it out, and choose "
                "batch_size so that batch_size times max_length tokens fit"
            )
        self.text_columns = {"text_column": text_column}
        if text_pair_column is not None:
            self.text_columns["text_pair_column"] = text_pair_column
        self.label_column = label_column
        self.given_names = class_names
        self.tokenizer_spec = tokenizer
        self._max_length = max_length
        self.long_texts = long_texts
        self.mask_probability = mask_probability
        self.token_dropout = token_dropout
        self.max_tokens = max_tokens
        self.group_by_length = group_by_length
        self.texts = texts
        self.num_proc = num_proc

    # What the data says of itself.

    @property
    def task(self) -> Literal["classification", "masked"]:
        """What the batches are for."""
        return "masked" if self.label_column is None else "classification"

    @property
    def tokenizer(self) -> "PreTrainedTokenizerFast":
        """The tokenizer; in an evaluation that of the task."""
        return tokenizer_from(self._tokenizer_settings)

    @property
    def vocab_size(self) -> int:
        """How many tokens it has."""
        return vocabulary_size(self.tokenizer)

    @property
    def max_length(self) -> int:
        """Most tokens of a text, special ones included."""
        if self._max_length is not None:
            return self._max_length
        return (self.trained_settings or {}).get("max_length", _MAX_LENGTH)

    def input_settings(self) -> dict[str, Any]:
        """How texts become tokens, and the class names, as plain values: what a checkpoint has to keep.

        `tasks.text.tokens.tokenizers.tokenizer_from` makes the tokenizer from "tokenizer".
        """
        return {
            "tokenizer": self._tokenizer_settings,
            "max_length": self.max_length,
            "class_names": self.class_names,
            "multi_label": self.multi_label,
            "pairs": len(self.text_columns) == 2,
        }

    @property
    def _tokenizer_settings(self) -> dict[str, Any]:
        return (self.trained_settings or {}).get("tokenizer") or self._own_tokenizer

    @cached_property
    def _own_tokenizer(self) -> dict[str, Any]:
        if not self.tokenizer_spec.learns:
            return tokenizer_settings(self.tokenizer_spec.build([]))
        columns = list(self.text_columns.values())
        if self.source.streaming:
            rows = choose_split(self.source, self.splits, "train_split", self.train_split)
            self._check_columns(rows.features if rows.features is not None else self.features, self.train_split)
            rows = self._undecoded(rows)
        else:
            rows = self.split_for("train").rows
        return learned_settings(self.tokenizer_spec, rows, columns, pictures=self._pictures)

    @property
    def _pad(self) -> int:
        # Any token does where the tokenizer has none for this: the mask tells it apart.
        return self.tokenizer.pad_token_id or 0

    def write_run_files(self, folder: Path) -> None:
        """Write the tokenizer into the folder "tokenizer", from which `transformers.AutoTokenizer` reads it."""
        self.tokenizer.save_pretrained(str(folder / "tokenizer"))

    @property
    def _pictures(self) -> bool:
        return any(isinstance(self.features[column], datasets.Image) for column in self.text_columns.values())

    # What the base asks of a domain.

    def columns(self) -> dict[str, str]:
        """Texts, and labels."""
        return {**self.text_columns, **({} if self.label_column is None else {"label_column": self.label_column})}

    def prepare_rows(self, rows: Any) -> Any:
        """Check the types of columns; streamed texts become tokens."""
        rows = self._undecoded(rows)
        if not self.source.streaming:
            return rows
        features = {column: self.features[column] for column in self.columns().values()}
        return tokenized(rows, self._tokenize(), features=features)

    def _undecoded(self, rows: Any) -> Any:
        """With pictures left to us, who say what cannot be decoded."""
        for argument, column in self.text_columns.items():
            feature = (rows.features or self.features)[column]
            if check_texts(argument, column, feature):
                rows = rows.cast_column(column, datasets.Image(decode=False))
        return rows

    def _tokenize(self, *, to_predict: bool = False) -> Tokenize:
        tokenizer, pairs = self.tokenizer, len(self.text_columns) == 2
        added = tokenizer.num_special_tokens_to_add(pairs)
        if pairs and added == 0:
            raise ValueError(
                "text_pair_column: the tokenizer puts nothing between the texts of a pair, so where the first one ends "
                "would be lost; choose another tokenizer, or BytesSpec, CharactersSpec, WordsSpec or BpeSpec"
            )
        least = added + len(self.text_columns)
        if self.max_length < least:
            raise ValueError(
                f"max_length: expected at least {least}, which leaves room for a token beside the special ones of the "
                f"tokenizer, got {self.max_length}"
            )
        return Tokenize(
            self._tokenizer_settings,
            list(self.text_columns.values()),
            self.max_length,
            types=pairs and "token_type_ids" in tokenizer.model_input_names,
            split=self.long_texts != "cut" and not to_predict,
            join=self.long_texts == "join" and not to_predict,
            keep=to_predict,
        )

    def reader(self, role: Role) -> TokenReader:
        """Takes tokens and labels."""
        return TokenReader(self.labels)

    def collator(self, role: Role) -> TextCollator:
        """Pads, and makes gaps where there are no labels; in training leaves tokens out."""
        tokenizer = self.tokenizer
        gaps, dropout = None, None
        if role == "train" and self.token_dropout > 0:
            dropout = TokenDropout(self._tokenizer_settings, self.token_dropout, self.seed)
        if self.task == "masked":
            if tokenizer.mask_token_id is None:
                raise ValueError(
                    "tokenizer: masked language modelling needs one with a mask token, and this one has none; choose "
                    "another, or BytesSpec, CharactersSpec or BpeSpec"
                )
            gaps = Gaps(self._tokenizer_settings, self.mask_probability, self.seed if role == "train" else None)
        return TextCollator(self._pad, labels=self.labels, gaps=gaps, dropout=dropout)

    def preparation(self) -> Any:
        """What an evaluation takes from its task: tokenizer, length and classes."""
        return self._tokenizer_settings, self.max_length, self.labels

    def map_examples(self, role: Role, split: Split) -> Examples:
        """The examples of a split, as tokens."""
        rows = tokenized(split.rows, self._tokenize(), name=split.name, num_proc=self.num_proc)
        return TokenizedExamples(
            split.name,
            rows,
            split.numbers,
            self.reader(role),
            self.collator(role),
            max_length=self.max_length,
            on_bad=self.on_bad,
            remedy=self.remedy,
        )

    def row_costs(self, examples: Examples | StreamExamples) -> RowCosts | None:
        """The lengths of texts in tokens."""
        if not isinstance(examples, TokenizedExamples):
            return None
        return RowCosts(examples.lengths, self.max_tokens, self.group_by_length, argument="max_tokens")

    def prepare_data(self) -> None:
        """Download, learn the tokenizer and turn texts into tokens on one process, for the others to find."""
        super().prepare_data()
        if self.trainer is not None and self.trainer.state.fn == "fit":
            self.setup("fit")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches of the texts to predict, prepared as the checkpoint says, or else as this module does.

        Raises:
            ValueError: no files are given, or they hold no texts.
            FileNotFoundError: a file does not exist.
        """
        if self.texts is None:
            raise ValueError("texts: expected texts to predict: --data.texts FILE (.txt, .csv, .json or .parquet)")
        examples = text_files(
            self.texts,
            self._tokenize(to_predict=True),
            TextCollator(self._pad),
            num_proc=self.num_proc,
            on_bad=self.on_bad,
            remedy=self.remedy,
        )
        self._examples["predict"] = examples
        costs = self.row_costs(examples)
        return eval_loader(examples, self.trainer, batch_size=self.batch_size, costs=costs, **self._loader_options())
