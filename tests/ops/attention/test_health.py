"""Factors and health figures against dense linear algebra."""

import pytest
import torch
from attention_cases import INVERSES, make_case

from softformer.ops import Cholesky, Inverse, Newton, attention_factors, attention_health, soft_attention

FIGURES = ("query_norm", "key_norm", "inverse_norm", "attention_norm", "residual", "effective_rank")


def without_value(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: x for name, x in tensors.items() if name != "value"}


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("inverse", INVERSES.values(), ids=INVERSES)
def test_factors_multiply_to_the_output(cross: bool, inverse: Inverse) -> None:
    case = make_case(cross=cross, masks=True)
    options = case.options | {"inverse": inverse, "symmetric_norm": True}
    queries, plus, keys = attention_factors(**without_value(case.tensors), **options)
    key_mask = case.options.get("key_mask", case.options["query_mask"])
    value = case.tensors["value"].masked_fill(~key_mask[:, None, :, None], 0)
    expected = soft_attention(**case.tensors, **options)
    torch.testing.assert_close(queries @ (plus @ (keys.mT @ value)), expected, rtol=1e-9, atol=1e-11)


def test_figures_equal_dense_norms() -> None:
    case = make_case(cross=True, masks=True)
    inputs = without_value(case.tensors)
    queries, plus, keys = attention_factors(**inputs, **case.options, inverse=Cholesky(), symmetric_norm=True)
    health = attention_health(**inputs, **case.options, inverse=Cholesky(), symmetric_norm=True)
    norm = torch.linalg.matrix_norm
    expected = {
        "query_norm": norm(queries, ord=2),
        "key_norm": norm(keys, ord=2),
        "inverse_norm": norm(plus, ord=2),
        "attention_norm": norm(queries @ plus @ keys.mT, ord=2),
    }
    for name, figure in expected.items():
        torch.testing.assert_close(getattr(health, name), figure, rtol=1e-8, atol=1e-8)
    assert health._fields == FIGURES
    assert all(figure.shape == (2, 3) for figure in health)


def test_residual_tells_an_inverse_from_unconverged_iterations() -> None:
    query = torch.randn(2, 3, 29, 5, dtype=torch.float64)
    landmarks = torch.randn(2, 3, 1, 5, dtype=torch.float64) + 1e-3 * torch.randn(2, 3, 7, 5, dtype=torch.float64)
    assert attention_health(query, landmarks, inverse=Cholesky()).residual.max() < 1e-10
    assert attention_health(query, landmarks, inverse=Newton(ridge=1e-6)).residual.min() > 0.5


def test_effective_rank_counts_distinct_kept_landmarks() -> None:
    query = torch.randn(2, 3, 29, 5)
    apart = 100 * torch.randn(2, 3, 7, 5)
    torch.testing.assert_close(attention_health(query, apart).effective_rank, torch.full((2, 3), 7.0))
    mask = torch.tensor([[True, True, False, True, False, False, False]]).expand(2, -1)
    figures = attention_health(query, apart, landmark_mask=mask)
    torch.testing.assert_close(figures.effective_rank, torch.full((2, 3), 3.0))
    none = torch.stack([mask[0], torch.zeros(7, dtype=torch.bool)])
    assert torch.equal(attention_health(query, apart, landmark_mask=none).effective_rank[1], torch.zeros(3))
    same = torch.randn(2, 3, 1, 5).expand(-1, -1, 7, -1)
    torch.testing.assert_close(attention_health(query, same).effective_rank, torch.ones(2, 3), rtol=1e-3, atol=1e-3)


def test_the_output_scale_scales_the_whole_matrix() -> None:
    query, landmarks = torch.randn(2, 3, 29, 5), torch.randn(2, 3, 7, 5)
    plain = attention_health(query, landmarks)
    scaled = attention_health(query, landmarks, output_scale=torch.tensor([0.5, 3.0]))
    torch.testing.assert_close(scaled.attention_norm, plain.attention_norm * torch.tensor([[0.5], [3.0]]))
    assert torch.equal(scaled.inverse_norm, plain.inverse_norm)


def test_broken_inputs_show_as_nan_in_their_head_alone() -> None:
    query, landmarks = torch.randn(2, 3, 29, 5), torch.randn(2, 3, 7, 5)
    query[1, 2, 3, 0] = torch.nan
    figures = attention_health(query, landmarks)
    broken = torch.zeros(2, 3, dtype=torch.bool)
    broken[1, 2] = True
    assert torch.equal(figures.query_norm.isnan(), broken)
    assert torch.equal(figures.attention_norm.isnan(), broken)
    assert figures.inverse_norm.isfinite().all()


def test_messages() -> None:
    with pytest.raises(ValueError, match="landmarks must have at least one row"):
        attention_health(torch.randn(2, 3, 29, 5), torch.randn(2, 3, 0, 5))
    with pytest.raises(ValueError, match="key_mask must be None without key"):
        attention_factors(
            torch.randn(2, 3, 29, 5), torch.randn(2, 3, 7, 5), key_mask=torch.ones(2, 29, dtype=torch.bool)
        )
