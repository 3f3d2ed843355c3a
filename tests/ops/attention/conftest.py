"""Fixtures for the tests of the attention."""

import pytest
from triton_interpreter import round_operands


@pytest.fixture(autouse=True)
def _operands_as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    round_operands(monkeypatch)
