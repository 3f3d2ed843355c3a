"""The options of the SOFT pyramid: their closed sets, their checks, and the shapes of the stages that follow."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from softformer.layers.block import DropKind
from softformer.layers.convolution import Grid
from softformer.models.vision.stages import halved
from softformer.ops.attention.backends import BackendName
from softformer.ops.inverse import Inverse, Newton
from softformer.ops.options import check_choice

AttentionKind = Literal["soft", "softmax"]
LandmarkKind = Literal["conv", "pool", "adaptive"]
LastStage = Literal["softmax", "soft"]
WeightInit = Literal["published", "xavier"]
GlobalPool = Literal["token", "avg", ""]
StemStride = Literal[4, 2, 1]

PAPER = Newton()
NUM_LANDMARKS = 49


class StageShape(NamedTuple):
    """One stage: width, number of blocks, heads, MLP ratio; stride of its landmarks and side of its value convolution.

    landmark_stride is None where the stage is the softmax transformer with a class token.
    """

    dim: int
    depth: int
    num_heads: int
    mlp_ratio: float
    landmark_stride: int | None
    value_kernel: int


class BlockOptions(NamedTuple):
    """Options of the blocks of all stages; see `softformer.SoftVisionTransformer`."""

    attention: AttentionKind
    landmarks: LandmarkKind
    num_landmarks: int
    inverse: Inverse
    symmetric_norm: bool
    qkv_bias: bool
    proj_drop: float
    block_drop: DropKind
    backend: BackendName
    factory: dict[str, Any]


def stage_shapes(
    embed_dims: Sequence[int],
    depths: Sequence[int],
    num_heads: Sequence[int],
    mlp_ratio: float | Sequence[float],
    landmark_strides: Sequence[int] | None,
    value_kernels: Sequence[int] | None,
    last_stage: LastStage,
) -> list[StageShape]:
    """The shape of each stage, from options that list a value for each stage.

    Without landmark_strides and value_kernels the published rule holds from the last stage backwards: strides .., 8, 4,
    2, 1, which gives every stage the same number of landmarks, and value kernels .., 9, 5, 3, 3.
    """
    check_choice("last_stage", last_stage, LastStage)
    stages = len(embed_dims)
    soft_stages = stages - (last_stage == "softmax")
    if stages == 0:
        raise ValueError("embed_dims must have a width for each stage, got none")
    ratios = [float(mlp_ratio)] * stages if isinstance(mlp_ratio, int | float) else list(mlp_ratio)
    steps = [2 ** (stages - 1 - stage) for stage in range(soft_stages)]
    strides = steps if landmark_strides is None else list(landmark_strides)
    kernels = [max(3, step + 1) for step in steps] if value_kernels is None else list(value_kernels)
    for name, values in {"depths": depths, "num_heads": num_heads, "mlp_ratio": ratios}.items():
        if len(values) != stages:
            raise ValueError(f"{name} must have {stages} values, one a stage as embed_dims has, got {len(values)}")
    for name, values in {"landmark_strides": strides, "value_kernels": kernels}.items():
        if len(values) != soft_stages:
            raise ValueError(f"{name} must have {soft_stages} values, one a SOFT stage, got {len(values)}")
    integers = {"embed_dims": embed_dims, "depths": depths, "num_heads": num_heads, "landmark_strides": strides}
    for name, values in integers.items():
        check_all_positive(name, values)
    for kernel in kernels:
        if isinstance(kernel, bool) or not isinstance(kernel, int) or kernel < 0 or (kernel and kernel % 2 == 0):
            raise ValueError(f"value_kernels must be odd, or 0 for none, got {tuple(kernels)}")
    for dim, heads in zip(embed_dims, num_heads):
        if dim % heads:
            raise ValueError(f"num_heads must divide embed_dims, got {tuple(num_heads)} and {tuple(embed_dims)}")
    strided: list[int | None] = [*strides, *[None] * (stages - soft_stages)]
    kernels += [0] * (stages - soft_stages)
    return [StageShape(*row) for row in zip(embed_dims, depths, num_heads, ratios, strided, kernels)]


def check_attention(blocks: BlockOptions, landmark_strides: Sequence[int] | None, last_stage: LastStage) -> None:
    """Check that the attention options are valid and fit together: none is set that would change nothing."""
    check_choice("attention", blocks.attention, AttentionKind)
    check_choice("landmarks", blocks.landmarks, LandmarkKind)
    check_choice("block_drop", blocks.block_drop, DropKind)
    if blocks.num_landmarks != NUM_LANDMARKS and blocks.landmarks != "adaptive":
        raise ValueError(
            f"num_landmarks={blocks.num_landmarks} needs landmarks='adaptive', got landmarks={blocks.landmarks!r}"
        )
    if landmark_strides is not None and blocks.landmarks == "adaptive":
        raise ValueError("landmark_strides need landmarks='conv' or 'pool'; 'adaptive' takes num_landmarks instead")
    if not blocks.qkv_bias and last_stage == "soft":
        raise ValueError("qkv_bias=False needs last_stage='softmax': SOFT blocks always have these biases")
    if blocks.attention == "softmax":
        values_and_defaults = {
            "landmarks": (blocks.landmarks, "conv"),
            "landmark_strides": (landmark_strides, None),
            "inverse": (blocks.inverse, PAPER),
            "symmetric_norm": (blocks.symmetric_norm, False),
            "last_stage": (last_stage, "softmax"),
            "backend": (blocks.backend, "auto"),
        }
        extra = [f"{name}={value!r}" for name, (value, default) in values_and_defaults.items() if value != default]
        if extra:
            raise ValueError(f"attention='softmax' has no use for {', '.join(extra)}; leave these options out")


def resolve_pool(global_pool: str | None, last_stage: LastStage, num_classes: int) -> GlobalPool:
    """Check the pooling; None selects the class token where there is one, else the mean."""
    token = last_stage == "softmax"
    if global_pool is None:
        return "token" if token else "avg"
    check_choice("global_pool", global_pool, GlobalPool)
    if global_pool == "token" and not token:
        raise ValueError("global_pool='token' needs last_stage='softmax', which has the class token; use 'avg'")
    if global_pool == "" and num_classes > 0:
        pools = "'token' or 'avg'" if token else "'avg'"
        raise ValueError(
            f"global_pool='' gives unpooled features and needs num_classes=0, got {num_classes}; for classes use "
            f"{pools}"
        )
    return global_pool  # type: ignore[return-value]


def stage_grids(size: Grid, stem_stride: int, stages: int) -> list[Grid]:
    """The grid of each stage for an image of (height, width) pixels."""
    grids = [halved(size, stem_stride)]
    while len(grids) < stages:
        grids.append(halved(grids[-1]))
    return grids


def smallest_side(shapes: Sequence[StageShape], stem_stride: int) -> int:
    """The smallest side in pixels whose grid has a whole landmark window in every stage."""
    steps = [stem_stride * 2**stage for stage in range(len(shapes))]
    return max((((shape.landmark_stride or 1) - 1) * step + 1 for shape, step in zip(shapes, steps)), default=1)


def check_sizes(num_classes: int, mlp_ratio: float | Sequence[float], rates: dict[str, float]) -> None:
    """Check that the number of classes, the MLP ratios, and the drop rates by name are in range."""
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 0:
        raise ValueError(f"num_classes must be a number of classes, or 0 for features, got {num_classes!r}")
    for ratio in [mlp_ratio] if isinstance(mlp_ratio, int | float) else mlp_ratio:
        if not ratio > 0:
            raise ValueError(f"mlp_ratio must be above 0, got {mlp_ratio!r}")
    for name, rate in rates.items():
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"{name} must be in [0, 1), got {rate!r}")


def image_size(img_size: int | Sequence[int]) -> Grid:
    """(height, width) in pixels, from a side or from both."""
    size = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
    if len(size) != 2:
        raise ValueError(f"img_size must be a side or (height, width), got {img_size!r}")
    check_all_positive("img_size", size)
    return size[0], size[1]


def check_all_positive(name: str, values: Sequence[int]) -> None:
    """Check that all values are integers of at least 1."""
    if any(isinstance(value, bool) or not isinstance(value, int) or value < 1 for value in values):
        raise ValueError(f"{name} must be integers of at least 1, got {tuple(values)}")
