"""ListOps: nested operations on lists of digits, with their values as classes; generated here without a download.

"[MAX 2 9 [MIN 4 7 ] 0 ]" is 9. The operators are MIN, MAX, MED (the median; of an even number of arguments the integer
part of the mean of the middle two) and SM (the sum modulo 10).

An argument is an operation with probability 1/4 and otherwise a digit, and at the greatest depth always a digit; an
operation has 2 to `max_args` arguments; operators, numbers of arguments, and digits are uniform; expressions that are
too short, too long, or duplicates are dropped.
"""

import hashlib
from collections.abc import Iterator

import datasets
import numpy as np
from datasets.exceptions import DatasetGenerationError

# A token is its number: the ten digits, the operators, the closing bracket.
_DIGITS = 10
_WORDS = [*(str(digit) for digit in range(_DIGITS)), "[MIN", "[MAX", "[MED", "[SM", "]"]
_CLOSE = len(_WORDS) - 1

# Number of expressions that grow side by side, level by level. The rows of a seed depend on it.
_TREES = 4096
# Number of rounds without a new expression after which there are no more.
_PATIENCE = 100
# Raise it with the rows: `datasets` caches them under a name that does not depend on the code.
_VERSION = 1

# The nodes of one depth in many trees: (n,) the tree of each, ascending, and (n,) its number of arguments, 0 for a
# digit. The arguments of an operation are neighbors in the next level.
_Level = tuple[np.ndarray, np.ndarray]


def listops(
    num_train: int = 96_000,
    num_val: int = 2_000,
    num_test: int = 2_000,
    *,
    min_length: int = 501,
    max_length: int = 1_999,
    max_depth: int = 10,
    max_args: int = 10,
    seed: int = 0,
) -> datasets.DatasetDict:
    """Splits train, validation, and test with the columns text and label; the defaults are those of Long Range Arena.

    Rows depend on the arguments alone, under any release of numpy; the rows of test and validation are the same for any
    num_train. No expression occurs twice. `datasets` caches the rows.

    Args:
        num_train: number of rows to train on.
        num_val: number of rows to validate on.
        num_test: number of rows to test on.
        min_length: minimum number of tokens of an expression, brackets included; an operator with its bracket is one.
        max_length: maximum number of tokens of an expression.
        max_depth: maximum depth of a digit; the outermost operation has depth 1.
        max_args: maximum number of arguments of an operation.
        seed: seed of the rows, 0 to 2^32 - 1.

    Raises:
        ValueError: an argument is out of range, or there are fewer expressions of these lengths.

    Source: N. Nangia and S. Bowman, "ListOps: A Diagnostic Dataset for Latent Tree Learning", 2018 (arXiv 1804.06028);
    Y. Tay et al., "Long Range Arena", 2021 (arXiv 2011.04006), and its released generator, which writes further
    brackets around pairs that its tokenizer drops.
    """
    counts = (("num_train", num_train, 1), ("num_val", num_val, 1), ("num_test", num_test, 1))
    for name, value, least in (*counts, ("max_depth", max_depth, 2), ("max_args", max_args, 2)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    # The shortest expression is an operator, two digits, and a bracket.
    if max_length < max(4, min_length):
        raise ValueError(
            f"max_length must be at least 4 and at least min_length, got {max_length} with min_length {min_length}"
        )
    longest = 1
    for _ in range(max_depth - 1):
        longest = 2 + max_args * longest
    if min_length > longest:
        raise ValueError(
            f"min_length must be at most {longest}, the longest expression with max_depth {max_depth} and max_args "
            f"{max_args}, got {min_length}"
        )
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be 0 to 2^32 - 1, got {seed}")
    shape = {"min_length": min_length, "max_length": max_length, "max_depth": max_depth, "max_args": max_args}
    features = {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=_WORDS[:_DIGITS])}
    try:
        rows = datasets.Dataset.from_generator(
            _rows,
            features=datasets.Features(features),
            gen_kwargs={"num_rows": num_train + num_val + num_test, **shape, "seed": seed, "version": _VERSION},
            split=datasets.NamedSplit("listops"),  # the name on the progress bar
        )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, ValueError):
            raise error.__cause__ from None
        raise
    # Rows of test and validation come first, so that they do not depend on num_train.
    first = num_test + num_val
    parts = {"train": (first, len(rows)), "validation": (num_test, first), "test": (0, num_test)}
    return datasets.DatasetDict({name: rows.select(range(*part)) for name, part in parts.items()})


def listops_512() -> datasets.DatasetDict:
    """A small ListOps for a CPU: 20,000, 2,000, and 2,000 rows of at most 512 tokens, two special tokens included."""
    return listops(20_000, min_length=100, max_length=510)


def _rows(version: int, **options: int) -> Iterator[dict[str, str | int]]:
    for text, value in expressions(**options):
        yield {"text": text, "label": value}


def expressions(
    num_rows: int, *, min_length: int, max_length: int, max_depth: int, max_args: int, seed: int
) -> Iterator[tuple[str, int]]:
    """Distinct expressions and their values; arguments as in `listops`."""
    # numpy guarantees that the numbers of its older generator never change.
    random = np.random.RandomState(seed)
    known: set[bytes] = set()
    barren = 0
    while len(known) < num_rows:
        before = len(known)
        levels, lengths = _grow(random, max_length, max_depth, max_args)
        fits = (min_length <= lengths) & (lengths <= max_length)
        levels = [(tree[fits[tree]], arity[fits[tree]]) for tree, arity in levels]
        tokens, values = _filled(random, levels, max_args)
        for text, value in zip(_texts(tokens, lengths[fits]), values.tolist()):
            digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
            if digest not in known and len(known) < num_rows:
                known.add(digest)
                yield text, value
        barren = 0 if len(known) > before else barren + 1
        if barren == _PATIENCE:
            raise ValueError(
                f"num_train + num_val + num_test must be at most the number of distinct expressions, got {num_rows}, "
                f"but only {len(known)} were found of {min_length} to {max_length} tokens, max_depth {max_depth}, and "
                f"max_args {max_args}; lower these numbers, or allow other lengths"
            )


def _grow(
    random: np.random.RandomState, max_length: int, max_depth: int, max_args: int
) -> tuple[list[_Level], np.ndarray]:
    """Trees whose root is an operation, and their lengths in tokens. Trees longer than max_length are incomplete."""
    tree = np.arange(_TREES)
    lengths = np.ones(_TREES, dtype=np.int64)
    levels = []
    for depth in range(1, max_depth + 1):
        if 1 < depth < max_depth:
            operation = random.randint(4, size=len(tree), dtype=np.uint8) == 0
        else:
            operation = np.full(len(tree), depth == 1)
        arity = np.zeros(len(tree), dtype=np.int64)
        arity[operation] = random.randint(2, max_args + 1, size=np.count_nonzero(operation))
        levels.append((tree, arity))
        # The arguments and a closing bracket; the operator was counted as an argument of its parent.
        lengths += np.bincount(tree, weights=arity + operation, minlength=_TREES).astype(np.int64)
        tree = np.repeat(tree, np.where(lengths[tree] <= max_length, arity, 0))
    return levels, lengths


def _filled(random: np.random.RandomState, levels: list[_Level], max_args: int) -> tuple[np.ndarray, np.ndarray]:
    """All tokens of trees with random operators and digits, tree after tree, and the value of each tree."""
    codes, sizes = [], []
    value = size = np.zeros(0, dtype=np.int64)
    for _, arity in reversed(levels):
        operation = arity > 0
        code = random.randint(_DIGITS, size=len(arity))
        code[operation] = random.randint(_DIGITS, _CLOSE, size=np.count_nonzero(operation))
        result, extent = code.copy(), np.ones(len(arity), dtype=np.int64)
        result[operation] = _applied(code[operation], value, arity[operation], max_args)
        extent[operation] = 2 + _sums(size, arity[operation])
        value, size = result, extent
        codes.append(code)
        sizes.append(size)
    # Tokens that are not set below are closing brackets.
    tokens = np.full(sizes[-1].sum(), _CLOSE)
    place = np.cumsum(sizes[-1]) - sizes[-1]
    for depth, (_, arity) in enumerate(levels):
        tokens[place] = codes[-1 - depth]
        if depth + 1 < len(levels):
            size = sizes[-2 - depth]
            before = np.cumsum(size) - size
            first = np.cumsum(arity) - arity
            operation = arity > 0
            # An argument follows the operator and the arguments before it.
            place = before + np.repeat(place[operation] + 1 - before[first[operation]], arity[operation])
    return tokens, value


def _applied(code: np.ndarray, value: np.ndarray, arity: np.ndarray, max_args: int) -> np.ndarray:
    """(n,) values of operations with the given operators; `value` holds their arguments, operation after operation."""
    table = np.full((len(arity), max_args), _DIGITS, dtype=np.uint8)
    table[np.arange(max_args) < arity[:, None]] = value
    table.sort(axis=1)
    row = np.arange(len(arity))
    median = (table[row, (arity - 1) // 2] + table[row, arity // 2]) // 2
    return np.choose(code - _DIGITS, [table[:, 0], table[row, arity - 1], median, _sums(value, arity) % 10])


def _sums(x: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sums of consecutive segments of x with the given lengths."""
    ends = np.cumsum(counts)
    sums = np.concatenate(([0], np.cumsum(x)))
    return sums[ends] - sums[ends - counts]


def _texts(tokens: np.ndarray, lengths: np.ndarray) -> Iterator[str]:
    """Texts of consecutive segments of tokens with the given lengths."""
    words = np.array([f"{word} ".encode() for word in _WORDS])
    letters = words.view(np.uint8).reshape(len(words), -1)
    widths = np.count_nonzero(letters, axis=1)
    # Shorter words are padded with zeros, which are dropped.
    letters = letters[tokens]
    text = letters[letters > 0].tobytes().decode("ascii")
    start = 0
    for end in np.cumsum(widths[tokens])[np.cumsum(lengths) - 1].tolist():
        yield text[start : end - 1]
        start = end
