"""SoftEncoder: padding, lengths, positions, options, training aids, and compilers."""

import itertools
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, export

import softformer.layers.attention as attention_module
from softformer.layers.attention import SoftAttention
from softformer.layers.landmarks import ConvSegmentLandmarks, SegmentLandmarks
from softformer.layers.positions import PositionKind
from softformer.models.sequence import SequenceAttention, SequenceLandmarks, SoftEncoder, SoftOptions
from softformer.ops import Cholesky, Newton

HEADS, DIM, LANDMARKS, DEPTH = 3, 42, 7, 2
LENGTHS = [29, 5, 0, 17, 1]
COLUMNS = 31
POSITIONS = get_args(PositionKind)
INVERSES = {
    "cholesky": Cholesky(),
    "newton": Newton(),
    "newton-unrolled": Newton(gradient="unrolled"),
    "halving": Newton(start="halving"),
    "halving-unrolled": Newton(start="halving", gradient="unrolled"),
}


def _encoder(attention: SequenceAttention = "soft", depth: int = DEPTH, **options: Any) -> SoftEncoder:
    """An encoder whose norms and biases do something."""
    torch.manual_seed(1)
    if attention == "soft":
        options = {"num_landmarks": LANDMARKS, **options}
    encoder = SoftEncoder(DIM, depth, HEADS, attention=attention, **options)
    for name, parameter in encoder.named_parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, mean=float("norm" in name and "weight" in name), std=0.1)
    return encoder


def _right(length: int) -> Tensor:
    return torch.arange(COLUMNS) < length


def _left(length: int) -> Tensor:
    return torch.arange(COLUMNS) >= COLUMNS - length


def _scattered(length: int) -> Tensor:
    return torch.zeros(COLUMNS, dtype=torch.bool).index_fill(0, torch.randperm(COLUMNS)[:length], True)


def _assert_near(found: Tensor, expected: Tensor, relative: float, scale: float = 0.0) -> None:
    """The largest difference is small beside the largest number, or beside a scale."""
    scale = max(scale, expected.abs().max().item())
    torch.testing.assert_close(found, expected, rtol=0, atol=relative * scale)


def _assert_padding_changes_nothing(
    encoder: SoftEncoder, pads: Callable[[int], Tensor], *, relative: float, dtype: torch.dtype
) -> None:
    """A padded batch against each sequence alone: outputs, and gradients of inputs and parameters."""
    mask = torch.stack([pads(length) for length in LENGTHS])
    poison = torch.where(torch.arange(COLUMNS) % 2 == 0, torch.nan, torch.inf).to(dtype)[:, None]
    x = torch.where(mask[..., None], torch.randn(len(LENGTHS), COLUMNS, DIM, dtype=dtype), poison).requires_grad_()
    cotangent = torch.where(mask[..., None], torch.randn_like(x), poison)
    parameters = list(encoder.parameters())
    out = encoder(x, mask)
    grads = torch.autograd.grad(out, [x, *parameters], cotangent)
    assert out[~mask].eq(0).all()
    assert grads[0][~mask].eq(0).all()
    totals = [torch.zeros_like(parameter) for parameter in parameters]
    for row, length in enumerate(LENGTHS):
        if length == 0:
            continue
        tokens = x[row, mask[row]].detach()[None].requires_grad_()
        alone = encoder(tokens)
        _assert_near(out[row, mask[row]], alone[0], relative)
        part = torch.autograd.grad(alone, [tokens, *parameters], cotangent[row, mask[row]][None])
        _assert_near(grads[0][row, mask[row]], part[0][0], relative)
        totals = [total + grad for total, grad in zip(totals, part[1:])]
    names = [name.rpartition(".")[0] for name, _ in encoder.named_parameters()]
    for name, grad, total in zip(names, grads[1:], totals):
        # What shifts queries and landmarks alike has no gradient, so a bias is measured by its layer's weight.
        scale = max(other.abs().max().item() for module, other in zip(names, totals) if module == name)
        _assert_near(grad, total, relative, scale)


@pytest.mark.parametrize("pads", [_right, _left, _scattered])
@pytest.mark.parametrize("attention", get_args(SequenceAttention))
def test_padding_changes_nothing_in_float32(attention: SequenceAttention, pads: Callable[[int], Tensor]) -> None:
    encoder = _encoder(attention)
    _assert_padding_changes_nothing(encoder, pads, relative=1e-5, dtype=torch.float32)


@pytest.mark.parametrize("symmetric_norm", [False, True])
@pytest.mark.parametrize("inverse", INVERSES)
@pytest.mark.parametrize("landmarks", get_args(SequenceLandmarks))
def test_padding_changes_nothing_with_any_inverse(
    landmarks: SequenceLandmarks, inverse: str, symmetric_norm: bool
) -> None:
    soft = SoftOptions(landmarks=landmarks, inverse=INVERSES[inverse], symmetric_norm=symmetric_norm)
    encoder = _encoder(soft=soft).double()
    _assert_padding_changes_nothing(encoder, _scattered, relative=1e-10, dtype=torch.float64)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("value_kernel", [0, 3])
@pytest.mark.parametrize("landmarks", get_args(SequenceLandmarks))
def test_padding_changes_nothing_with_any_positions(
    landmarks: SequenceLandmarks, value_kernel: int, positions: PositionKind
) -> None:
    soft = SoftOptions(landmarks=landmarks, inverse=Newton(), value_kernel=value_kernel)
    encoder = _encoder(soft=soft, positions=positions).double()
    _assert_padding_changes_nothing(encoder, _scattered, relative=1e-10, dtype=torch.float64)


@pytest.mark.parametrize("pads", [_right, _left, _scattered])
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("attention", get_args(SequenceAttention))
def test_the_place_of_padding_changes_nothing(
    attention: SequenceAttention, positions: PositionKind, pads: Callable[[int], Tensor]
) -> None:
    encoder = _encoder(attention, positions=positions).double()
    _assert_padding_changes_nothing(encoder, pads, relative=1e-10, dtype=torch.float64)


@pytest.mark.parametrize("attention", get_args(SequenceAttention))
def test_batch_mates_change_nothing(attention: SequenceAttention) -> None:
    encoder = _encoder(attention).double()
    x, mask = torch.randn(5, COLUMNS, DIM).double(), torch.stack([_scattered(length) for length in LENGTHS])
    mates = torch.where(torch.arange(5)[:, None, None] == 3, x, 100 * torch.randn_like(x))
    others = torch.where(torch.arange(5)[:, None] == 3, mask, ~mask)
    _assert_near(encoder(mates, others)[3], encoder(x, mask)[3], 1e-10)


@pytest.mark.parametrize("attention", get_args(SequenceAttention))
def test_a_full_mask_is_no_mask(attention: SequenceAttention) -> None:
    encoder, x = _encoder(attention).double(), torch.randn(2, 13, DIM).double()
    _assert_near(encoder(x, torch.ones(2, 13, dtype=torch.bool)), encoder(x), 1e-10)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("attention", get_args(SequenceAttention))
def test_sequences_of_pads_alone(attention: SequenceAttention, positions: PositionKind) -> None:
    encoder = _encoder(attention, positions=positions)
    x = torch.full((2, 13, DIM), torch.nan, requires_grad=True)
    out = encoder(x, torch.zeros(2, 13, dtype=torch.bool))
    assert out.eq(0).all()
    grads = torch.autograd.grad(out.sum(), [x, *encoder.parameters()], allow_unused=True, materialize_grads=True)
    assert all(grad.eq(0).all() for grad in grads)


@pytest.mark.parametrize("attention", get_args(SequenceAttention))
def test_no_tokens_and_no_rows(attention: SequenceAttention) -> None:
    encoder = _encoder(attention)
    for shape in ((2, 0, DIM), (0, 5, DIM)):
        assert encoder(torch.randn(shape)).shape == shape
        assert encoder(torch.randn(shape), torch.ones(shape[:2], dtype=torch.bool)).shape == shape


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("positions", ["none", "sinusoidal", "rotary"])
@pytest.mark.parametrize("attention", get_args(SequenceAttention))
def test_any_length_works(attention: SequenceAttention, positions: PositionKind, masked: bool) -> None:
    encoder = _encoder(attention, positions=positions, max_length=13)
    mask = torch.ones(1, 1031, dtype=torch.bool) if masked else None
    out = encoder(torch.randn(1, 1031, DIM), mask)
    assert out.isfinite().all()
    assert 0.1 < out.std() < 10


def test_learned_positions_end() -> None:
    encoder = _encoder(positions="learned", max_length=13)
    assert encoder(torch.randn(2, 13, DIM)).isfinite().all()
    with pytest.raises(ValueError, match="x must have at most 13 tokens, one for each learned position, got 17"):
        encoder(torch.randn(2, 17, DIM))


@pytest.mark.parametrize("positions", POSITIONS)
def test_positions_tell_the_order(positions: PositionKind) -> None:
    encoder = _encoder("softmax", positions=positions).double()
    if positions == "learned":
        nn.init.normal_(encoder.positions.weight)
    x, order = torch.randn(2, 13, DIM).double(), torch.randperm(13)
    difference = (encoder(x[:, order]) - encoder(x)[:, order]).abs().max()
    assert difference < 1e-10 if positions == "none" else difference > 1e-3


@pytest.mark.parametrize("attention", get_args(SequenceAttention))
def test_rotary_positions_may_all_be_shifted(attention: SequenceAttention) -> None:
    encoder, x = _encoder(attention, positions="rotary").double(), torch.randn(2, 19, DIM).double()
    before = torch.cat((torch.full((2, 23, DIM), torch.nan), x), dim=1)
    mask = (torch.arange(42) >= 23).expand(2, -1)
    _assert_near(encoder(before, mask)[:, 23:], encoder(x), 1e-10)


def test_rotary_attention_sees_differences_of_positions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = SoftAttention(DIM, HEADS, landmarks=SegmentLandmarks(LANDMARKS), rotary=True).double()
    x = torch.randn(2, 19, DIM).double()
    out = layer(x)
    tokens, segments = attention_module.token_positions, attention_module.segment_positions
    monkeypatch.setattr(attention_module, "token_positions", lambda *args: tokens(*args) + 101)
    assert (layer(x) - out).abs().max() > 1e-3
    monkeypatch.setattr(attention_module, "segment_positions", lambda *args: segments(*args) + 101)
    # Angles are float32.
    torch.testing.assert_close(layer(x), out, rtol=0, atol=1e-4 * out.abs().max().item())


def test_landmarks_are_turned_after_they_are_pooled() -> None:
    layer = SoftAttention(DIM, HEADS, landmarks=SegmentLandmarks(2), rotary=True).double()
    x = torch.randn(1, 1, DIM).double().expand(1, 101, -1)
    inputs, _ = layer._inputs(x, None, None, None, None)
    torch.testing.assert_close(inputs["landmarks"].norm(dim=-1), inputs["query"].norm(dim=-1)[..., :2])


def test_each_block_adds_attention_and_mlp() -> None:
    encoder, x = _encoder(positions="none").double(), torch.randn(2, 13, DIM).double()
    states = encoder.hidden_states(x, every=True)
    assert len(states) == DEPTH + 1
    assert torch.equal(states[0], x)
    for block in encoder.blocks:
        x = x + block.mixer(block.norm1(x))
        x = x + block.mlp(block.norm2(x))
    torch.testing.assert_close(states[-1], encoder.norm(x), rtol=1e-12, atol=1e-12)
    assert torch.equal(states[-1], encoder(states[0]))
    assert [len(_encoder(depth=depth).hidden_states(torch.randn(1, 5, DIM))) for depth in (0, 1)] == [1, 1]


def test_states_are_put_back_among_the_pads() -> None:
    encoder = _encoder()
    mask = torch.stack([_scattered(length) for length in LENGTHS])
    states = encoder.hidden_states(torch.randn(5, COLUMNS, DIM), mask, every=True)
    assert len(states) == DEPTH + 1
    assert all(state[~mask].eq(0).all() and state[mask].ne(0).all() for state in states)


def test_drop_path_drops_branches_of_whole_samples() -> None:
    rate = 0.4
    encoder = _encoder(depth=3, drop_path=rate, positions="none").double().train()
    assert [block.drop1.rate for block in encoder.blocks] == pytest.approx([0, rate / 2, rate])
    assert [block.drop2.rate for block in encoder.blocks] == pytest.approx([0, rate / 2, rate])
    x = torch.randn(1, 13, DIM).double().expand(101, -1, -1)
    states = encoder.hidden_states(x, every=True)
    assert states[1].std(0).max() < 1e-12
    block, before = encoder.blocks[1], states[1][:1]
    possible = []
    for first, second in itertools.product((0, 1 / (1 - rate / 2)), repeat=2):
        middle = before + first * block.mixer(block.norm1(before))
        possible.append(middle + second * block.mlp(block.norm2(middle)))
    distances = torch.stack([(states[2] - one).abs().amax((1, 2)) for one in possible])
    assert distances.min(0).values.max() < 1e-12
    seen = torch.bincount(distances.argmin(0), minlength=4)
    assert (seen > 0).all()
    assert seen[3] > seen[0]
    assert encoder.eval()(x).std(0).max() < 1e-12


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("attention", get_args(SequenceAttention))
def test_gradient_checkpointing_gives_the_same_gradients(attention: SequenceAttention, dropout: float) -> None:
    mask, x = torch.stack([_scattered(length) for length in LENGTHS]), torch.randn(5, COLUMNS, DIM)
    results, calls = [], []
    for checkpointing in (False, True):
        encoder = _encoder(attention, gradient_checkpointing=checkpointing, dropout=dropout, drop_path=dropout).train()
        count = [0]
        encoder.blocks[1].register_forward_pre_hook(lambda *_, count=count: count.__setitem__(0, count[0] + 1))
        torch.manual_seed(7)
        out = encoder(x, mask)
        results.append([out, *torch.autograd.grad(out.square().sum(), list(encoder.parameters()))])
        calls.append(count[0])
        encoder.eval()(x, mask).sum().backward()
        calls.append(count[0])
    assert calls == [1, 2, 2, 3]
    for plain, computed_again in zip(*results):
        assert torch.equal(plain, computed_again)


def test_dropout_rates_go_where_they_belong() -> None:
    encoder = _encoder(dropout=0.2)
    assert [module.p for module in encoder.modules() if isinstance(module, nn.Dropout)] == [0.2] * (1 + 3 * DEPTH)


def test_types_and_devices() -> None:
    built = SoftEncoder(DIM, DEPTH, HEADS, positions="learned", device="meta", dtype=torch.bfloat16)
    assert {(p.device.type, p.dtype) for p in built.parameters()} == {("meta", torch.bfloat16)}
    encoder, x = _encoder().eval(), torch.randn(2, 13, DIM)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = encoder(x, torch.ones(2, 13, dtype=torch.bool))
    torch.testing.assert_close(mixed.float(), encoder(x), rtol=0.1, atol=0.1)
    half = encoder.bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), encoder.float()(x), rtol=0.1, atol=0.15)


COMPILED: dict[str, dict[str, Any]] = {
    "soft": {},
    "soft-conv-newton-rotary": {
        "positions": "rotary",
        "soft": SoftOptions(landmarks="conv", inverse=Newton(), value_kernel=3),
    },
    "softmax": {"attention": "softmax"},
    "softmax-rotary": {"attention": "softmax", "positions": "rotary"},
}


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", COMPILED)
def test_compiles_as_one_graph(name: str, masked: bool, dynamic: bool | None) -> None:
    encoder = _encoder(**COMPILED[name])
    torch._dynamo.reset()
    compiled = torch.compile(encoder, fullgraph=True, dynamic=dynamic, backend="eager")
    for length in (17, 29, 23):
        x = torch.randn(2, length, DIM)
        mask = torch.arange(length) >= torch.tensor([0, 9])[:, None] if masked else None
        results = []
        for run in (encoder, compiled):
            out = run(x, mask)
            results.append([out, *torch.autograd.grad(out.square().sum(), list(encoder.parameters()))])
        torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", COMPILED)
def test_exports_with_any_batch_and_length(name: str, masked: bool) -> None:
    encoder = _encoder(**COMPILED[name]).eval()

    def inputs(batch: int, length: int) -> tuple[Tensor, ...]:
        x, mask = torch.randn(batch, length, DIM), torch.rand(batch, length) > 0.3
        return (x, mask) if masked else (x,)

    axes = {0: Dim("batch"), 1: Dim("length")}
    program = export(encoder, inputs(2, 17), dynamic_shapes=(axes, axes) if masked else (axes,)).module()
    for sizes in ((1, 7), (3, 5), (5, 101)):
        given = inputs(*sizes)
        torch.testing.assert_close(program(*given), encoder(*given), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 4}, "num_heads must divide dim, got num_heads=4 and dim=42"),
        ({"attention": "linear"}, "attention must be one of 'soft', 'softmax', got 'linear'"),
        ({"positions": "alibi"}, "positions must be one of 'none', 'sinusoidal', 'learned', 'rotary', got 'alibi'"),
        ({"soft": SoftOptions(backend="cuda")}, "backend must be one of 'auto'"),
        ({"soft": Newton()}, "soft must be a SoftOptions, got Newton"),
        ({"soft": SoftOptions(value_kernel=4)}, "value_kernel must be odd, or 0 for none, got 4"),
        ({"num_landmarks": 0}, "num_landmarks must be an integer of at least 1, got 0"),
        ({"depth": -1}, "depth must be zero or positive, got -1"),
        ({"mlp_ratio": 0.0}, "mlp_ratio must be positive, got 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"drop_path": -0.1}, r"drop_path must be in \[0, 1\), got -0.1"),
        ({"positions": "learned", "max_length": 0}, "max_length must be an integer of at least 1, got 0"),
        ({"positions": "rotary", "num_heads": 14}, "head width must be even for rotary positions, got 3"),
        (
            {"attention": "softmax", "positions": "rotary", "num_heads": 14},
            "head width must be even for rotary positions",
        ),
        (
            {"attention": "softmax", "num_landmarks": 7},
            "num_landmarks must be left out with attention='softmax', which does not use it, got 7",
        ),
        (
            {"attention": "softmax", "soft": SoftOptions(symmetric_norm=False)},
            "soft must be left out with attention='softmax'",
        ),
        ({"attention": "softmax", "soft": SoftOptions(inverse=Newton())}, "soft must be left out"),
        ({"attention": "softmax", "soft": SoftOptions(backend="eager")}, "soft must be left out"),
    ],
)
def test_errors_name_the_argument(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SoftEncoder(**{"dim": DIM, "depth": DEPTH, "num_heads": HEADS, **options})


def test_options_are_checked_and_compared() -> None:
    with pytest.raises(ValueError, match="landmarks must be one of 'mean', 'conv', got 'max'"):
        SoftOptions(landmarks="max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="inverse must be a Newton"):
        SoftOptions(inverse="cholesky")  # type: ignore[arg-type]
    assert SoftOptions() == SoftOptions(inverse=Cholesky())
    assert len({SoftOptions(), SoftOptions("mean"), SoftOptions("conv"), SoftOptions(inverse=Newton())}) == 3


def test_options_reach_the_attention() -> None:
    soft = SoftOptions("conv", inverse=Newton(7), symmetric_norm=False, value_kernel=5, backend="reference")
    for block in _encoder(soft=soft).blocks:
        mixer = block.mixer
        assert isinstance(mixer.landmarks, ConvSegmentLandmarks)
        assert (mixer.landmarks.num_landmarks, mixer.inverse, mixer.symmetric_norm) == (LANDMARKS, Newton(7), False)
        assert (mixer.value_conv.weight.shape, mixer.backend, mixer.rotary) == ((HEADS, 1, 5), "reference", False)


def test_softmax_takes_options_that_equal_the_defaults() -> None:
    SoftEncoder(DIM, 1, HEADS, attention="softmax", soft=SoftOptions(inverse=Cholesky()), num_landmarks=64)


def test_inputs_are_checked() -> None:
    encoder, x = _encoder(), torch.randn(2, 13, DIM)
    with pytest.raises(ValueError, match=r"x must have shape \(batch, tokens, 42\), got \(2, 13, 41\)"):
        encoder(x[..., 1:])
    with pytest.raises(ValueError, match=r"mask must have shape \(2, 13\), got \(2, 12\)"):
        encoder(x, torch.ones(2, 12, dtype=torch.bool))
    with pytest.raises(ValueError, match="mask must be a bool tensor"):
        encoder(x, torch.ones(2, 13))


def test_what_it_says_of_itself() -> None:
    assert "dim=42, gradient_checkpointing=True" in repr(_encoder(gradient_checkpointing=True))
    assert _encoder().dim == DIM


def test_kinds_of_landmarks_are_listed() -> None:
    with pytest.raises(ValueError, match="landmarks must be one of 'mean', 'conv', got 'max'"):
        SoftOptions(landmarks="max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="inverse must be a Newton"):
        SoftOptions(inverse="cholesky")  # type: ignore[arg-type]
