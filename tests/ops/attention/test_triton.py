"""The Triton kernels in the interpreter: shapes that tiles do not divide, splits, strides, determinism, the PTX."""

import json
import os
import subprocess
import sys

import pytest
import torch
from attention_cases import make_case, takes
from attention_runs import TOLERANCES, as_double, relative_error, run

from softformer.ops import Cholesky, Inverse, Newton, soft_attention

pytestmark = pytest.mark.skipif(not takes("triton", torch.float32), reason="Triton's interpreter is off: see -m gpu")

SIZES = {
    "one of all": (1, 1, 1, 1, 1, 1, 1),
    "odd widths": (2, 1, 70, 33, 5, 7, 13),
    "wide value": (1, 2, 37, 70, 17, 24, 100),
    "wide head": (1, 2, 70, 37, 31, 96, 8),
    "published": (2, 2, 130, 67, 49, 32, 32),
    "two tiles": (1, 2, 70, 67, 67, 16, 24),
    "four tiles": (1, 1, 40, 37, 201, 16, 24),
    "both wide, two tiles": (1, 1, 37, 33, 71, 72, 80),
    "more landmarks than tokens": (1, 3, 3, 2, 23, 11, 5),
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("cross", [False, True], ids=["self", "cross"])
@pytest.mark.parametrize("masks", [False, True], ids=["whole", "masked"])
@pytest.mark.usefixtures("poisoned_memory")
def test_parity_over_shapes(sizes: tuple[int, ...], cross: bool, masks: bool) -> None:
    case = make_case(cross=cross, masks=masks, sizes=sizes, dtype=torch.float32)
    tokens = sizes[3] if cross else sizes[2]
    cotangent = torch.randn(*sizes[:3], sizes[6], dtype=torch.float64)
    options = {"inverse": Cholesky(0.1), "symmetric_norm": True, "output_scale": 1 / tokens}
    law = run(as_double(case), cotangent, "reference", **options)
    plain = run(case, cotangent, "reference", **options)
    for name, value in run(case, cotangent, "triton", **options).items():
        bound = max(TOLERANCES[torch.float32], 2 * relative_error(plain[name], law[name]))
        assert relative_error(value, law[name]) <= bound, name


@pytest.mark.parametrize("landmarks", [1, 15, 16, 49, 100, 128, 129])
@pytest.mark.parametrize("start", ["row_sum", "halving"])
def test_newton_on_chip_and_in_batched_products(landmarks: int, start: str) -> None:
    """Up to 128 landmarks one program holds the matrix; above, batched products."""
    case = make_case(sizes=(2, 2, 5, 5, landmarks, 24, 3), dtype=torch.float32, masks=landmarks > 1, spread=2.0)
    cotangent = torch.randn(2, 2, 5, 3, dtype=torch.float64)
    options = {"inverse": Newton(start=start), "symmetric_norm": True}  # type: ignore[arg-type]
    law = run(as_double(case), cotangent, "reference", **options)
    plain = run(case, cotangent, "reference", **options)
    for name, value in run(case, cotangent, "triton", **options).items():
        assert relative_error(value, law[name]) <= max(1e-5, 2 * relative_error(plain[name], law[name])), name


@pytest.mark.parametrize("inverse", [Newton(), Cholesky()], ids=["newton", "cholesky"])
def test_the_same_bits_every_time(inverse: Inverse) -> None:
    case = make_case(sizes=(2, 2, 300, 300, 9, 8, 8), dtype=torch.float32)
    cotangent = torch.randn(2, 2, 300, 8)
    first, second = (run(case, cotangent, "triton", inverse=inverse) for _ in range(2))
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize("permutation", [(0, 2, 1, 3), (2, 0, 1, 3), (3, 1, 2, 0)], ids=str)
def test_strided_inputs_are_read_where_they_lie(permutation: tuple[int, ...]) -> None:
    case = make_case(sizes=(2, 3, 40, 40, 5, 8, 16), dtype=torch.float32, cross=True, masks=True)
    inverse = [permutation.index(axis) for axis in range(4)]
    strided = {name: x.permute(permutation).contiguous().permute(inverse) for name, x in case.tensors.items()}
    for name, x in strided.items():
        assert not x.is_contiguous(), name
    expected = soft_attention(**case.tensors, **case.options, backend="triton")  # type: ignore[arg-type]
    assert torch.equal(soft_attention(**strided, **case.options, backend="triton"), expected)  # type: ignore[arg-type]


def test_a_nan_in_a_real_token_is_not_hidden() -> None:
    tensors = make_case(dtype=torch.float32).tensors
    tensors["query"][1, 0, 3, 2] = torch.nan
    out = soft_attention(**tensors, backend="triton")  # type: ignore[arg-type]
    assert out[1, 0].isnan().any()
    assert out[0].isfinite().all()


def test_sizes_of_the_batch_select_no_kernel() -> None:
    """Values of B, H, N and of strides leave the key alone by which compiled kernels are found."""
    lines = _in_a_process_without_interpreter("keys")
    assert lines[0] == lines[1]
    assert lines[0] != lines[2]


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_for_gpus(capability: int) -> None:
    """The compiler needs no GPU. Shared memory has to fit the smallest devices, but for Newton's large matrices."""
    for line in _in_a_process_without_interpreter("compile", str(capability)):
        kernel = json.loads(line)
        large = kernel["kernel"] == "newton_kernel" and kernel["landmarks"] > 64
        assert kernel["shared"] <= (192 if large else 99) * 1024, kernel


def _in_a_process_without_interpreter(*arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "triton_offline", *arguments],
        env={
            **{name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()
