"""Two networks of the same weights: equal up to rounding.

Not to the bit, as weights that a file was mapped to lie at other addresses, and what a matrix product sums up first
depends on how its operands are aligned. Tests compare the weights themselves bit for bit.
"""

import torch
from torch import Tensor


def assert_same_outputs(outputs: Tensor, expected: Tensor) -> None:
    """Far below what another weight changes, and above rounding that an iterated inverse magnifies."""
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)
