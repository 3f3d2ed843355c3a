"""ListOps: nested operations on lists of digits, and their values as classes; made here, nothing is downloaded.

"[MAX 2 9 [MIN 4 7 ] 0 ]" is 9. The operators are MIN, MAX, MED (the median; of an even number of arguments the integer
part of the mean of the middle two) and SM (the sum modulo 10).

An argument is an operation with probability 1/4 and otherwise a digit, and at the greatest depth always a digit; an
operation has 2 to `max_args` arguments; operators, numbers of arguments and digits are uniform; expressions that are
too short, too long or known already are thrown away.
"""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import datasets
import numpy as np
from datasets.exceptions import DatasetGenerationError

# A token is its number: the ten digits, the operators, the closing bracket.
_DIGITS = 10
_WORDS = [*(str(digit) for digit in range(_DIGITS)), "[MIN", "[MAX", "[MED", "[SM", "]"]
_CLOSE = len(_WORDS) - 1

# Expressions grow side by side, level by level. Part of what a seed means.
_TREES = 4096
# So many rounds without a new expression mean that there is none.
_PATIENCE = 100
# Part of the name under which `datasets` keeps the rows, as it does not see changes of the code: raise it with these.
_VERSION = 1


class _Level(NamedTuple):
    """The nodes of one depth in many trees; the arguments of an operation lie side by side in the next level."""

    tree: np.ndarray
    """(n,) which tree a node belongs to, ascending."""
    arity: np.ndarray
    """(n,) its number of arguments, 0 for a digit."""


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
    """Splits train, validation and test with the columns text and label; by default as Long Range Arena makes them.

    Rows follow from the arguments alone, under any release of numpy; those of test and validation are the same for any
    num_train. No expression occurs twice. They are made once and kept in the cache of `datasets`.

    Args:
        num_train: number of rows to train on.
        num_val: number of rows to validate on.
        num_test: number of rows to test on.
        min_length: fewest tokens of an expression, brackets included; an operator counts with its bracket.
        max_length: most tokens of an expression.
        max_depth: greatest depth of a digit; that of the outermost operation is 1.
        max_args: most arguments of an operation.
        seed: decides the rows, 0 to 2^32 - 1.

    Raises:
        ValueError: an argument is out of range, or there are not so many expressions of these lengths.

    Source: N. Nangia and S. Bowman, "ListOps: A Diagnostic Dataset for Latent Tree Learning", 2018 (arXiv 1804.06028);
    Y. Tay et al., "Long Range Arena", 2021 (arXiv 2011.04006), and its released generator. That one writes further
    brackets around pairs, which its tokenizer drops.
    """
    counts = {"test": num_test, "validation": num_val, "train": num_train}
    for name, count in (("num_train", num_train), ("num_val", num_val), ("num_test", num_test)):
        if count < 1:
            raise ValueError(f"{name}: expected at least 1 row, got {count}")
    shape = {"min_length": min_length, "max_length": max_length, "max_depth": max_depth, "max_args": max_args}
    _check(**shape, seed=seed)
    features = {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=_WORDS[:_DIGITS])}
    try:
        rows = datasets.Dataset.from_generator(
            _rows,
            features=datasets.Features(features),
            gen_kwargs={"num_rows": sum(counts.values()), **shape, "seed": seed, "version": _VERSION},
            split=datasets.NamedSplit("listops"),  # what the progress bar calls it
        )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, ValueError):
            raise error.__cause__ from None
        raise
    splits, start = {}, 0
    for name, count in counts.items():
        splits[name] = rows.select(range(start, start + count))
        start += count
    return datasets.DatasetDict({name: splits[name] for name in ("train", "validation", "test")})


def listops_512() -> datasets.DatasetDict:
    """A small ListOps for a CPU: 20,000, 2,000 and 2,000 rows of at most 512 tokens, of which two are special ones."""
    return listops(20_000, min_length=100, max_length=510)


def _rows(version: int, **options: int) -> Iterator[dict[str, str | int]]:
    for text, value in expressions(**options):
        yield {"text": text, "label": value}


def expressions(
    num_rows: int, *, min_length: int, max_length: int, max_depth: int, max_args: int, seed: int
) -> Iterator[tuple[str, int]]:
    """Different expressions and their values; arguments as `listops`.

    Raises:
        ValueError: there are fewer.
    """
    # The older of numpy's generators, as its numbers never change.
    random = np.random.RandomState(seed)
    known: set[bytes] = set()
    barren = 0
    while len(known) < num_rows:
        before = len(known)
        for text, value in _round(random, min_length, max_length, max_depth, max_args):
            digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
            if digest not in known and len(known) < num_rows:
                known.add(digest)
                yield text, value
        barren = 0 if len(known) > before else barren + 1
        if barren == _PATIENCE:
            raise ValueError(
                f"num_train, num_val and num_test: expected as many rows in all as there are expressions, got "
                f"{num_rows}, but only {len(known)} were found of {min_length} to {max_length} tokens, max_depth "
                f"{max_depth} and max_args {max_args}; ask for fewer, or allow other lengths"
            )


def _check(min_length: int, max_length: int, max_depth: int, max_args: int, seed: int) -> None:
    for name, number in (("max_depth", max_depth), ("max_args", max_args)):
        if number < 2:
            raise ValueError(f"{name}: expected at least 2, got {number}")
    # The shortest is an operator, two digits and a bracket.
    if max_length < max(4, min_length):
        raise ValueError(
            f"max_length: expected at least 4 tokens and at least min_length, got {max_length} with min_length "
            f"{min_length}"
        )
    longest = 1
    for _ in range(max_depth - 1):
        longest = 2 + max_args * longest
    if min_length > longest:
        raise ValueError(
            f"min_length: expected at most {longest} tokens, the longest with max_depth {max_depth} and max_args "
            f"{max_args}, got {min_length}"
        )
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed: expected 0 to 2^32 - 1, got {seed}")


def _round(
    random: np.random.RandomState, min_length: int, max_length: int, max_depth: int, max_args: int
) -> Iterator[tuple[str, int]]:
    """Expressions of the lengths asked for among many random ones."""
    levels, lengths = _grow(random, max_length, max_depth, max_args)
    fits = (min_length <= lengths) & (lengths <= max_length)
    levels = [_Level(tree[fits[tree]], arity[fits[tree]]) for tree, arity in levels]
    tokens, values = _filled(random, levels, max_args)
    yield from zip(_texts(tokens, lengths[fits]), values.tolist())


def _grow(
    random: np.random.RandomState, max_length: int, max_depth: int, max_args: int
) -> tuple[list[_Level], np.ndarray]:
    """Trees, the outermost node an operation, and their lengths in tokens; those above max_length are incomplete."""
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
        levels.append(_Level(tree, arity))
        # The arguments and a closing bracket; the operator has counted as an argument.
        lengths += np.bincount(tree, weights=arity + operation, minlength=_TREES).astype(np.int64)
        tree = np.repeat(tree, np.where(lengths[tree] <= max_length, arity, 0))
    return levels, lengths


def _filled(random: np.random.RandomState, levels: list[_Level], max_args: int) -> tuple[np.ndarray, np.ndarray]:
    """Operators and digits for whole trees: all tokens, tree after tree, and the value of each tree."""
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
    # Whatever is not written below stays a closing bracket.
    tokens = np.full(sizes[-1].sum(), _CLOSE)
    place = np.cumsum(sizes[-1]) - sizes[-1]
    for depth, (_, arity) in enumerate(levels):
        tokens[place] = codes[-1 - depth]
        if depth + 1 < len(levels):
            size = sizes[-2 - depth]
            before = np.cumsum(size) - size
            first = np.cumsum(arity) - arity
            operation = arity > 0
            # An argument stands behind the operator and the arguments before it.
            place = before + np.repeat(place[operation] + 1 - before[first[operation]], arity[operation])
    return tokens, value


def _applied(code: np.ndarray, value: np.ndarray, arity: np.ndarray, max_args: int) -> np.ndarray:
    """(n,) values of operations with the given operators, whose arguments lie side by side in `value`."""
    table = np.full((len(arity), max_args), _DIGITS, dtype=np.uint8)
    table[np.arange(max_args) < arity[:, None]] = value
    table.sort(axis=1)
    row = np.arange(len(arity))
    median = (table[row, (arity - 1) // 2] + table[row, arity // 2]) // 2
    return np.choose(code - _DIGITS, [table[:, 0], table[row, arity - 1], median, _sums(value, arity) % 10])


def _sums(x: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sums of consecutive stretches of x, of the given lengths."""
    ends = np.cumsum(counts)
    sums = np.concatenate(([0], np.cumsum(x)))
    return sums[ends] - sums[ends - counts]


def _texts(tokens: np.ndarray, lengths: np.ndarray) -> Iterator[str]:
    """Texts of consecutive stretches of tokens, of the given lengths."""
    words = np.array([f"{word} ".encode() for word in _WORDS])
    letters = words.view(np.uint8).reshape(len(words), -1)
    widths = np.count_nonzero(letters, axis=1)
    # Shorter words end in zeros, which go.
    letters = letters[tokens]
    text = letters[letters > 0].tobytes().decode("ascii")
    start = 0
    for end in np.cumsum(widths[tokens])[np.cumsum(lengths) - 1].tolist():
        yield text[start : end - 1]
        start = end
