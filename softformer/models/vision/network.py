"""The SOFT vision transformer: a pyramid of softmax-free stages, with the interface of timm's models.

Letters: B batch, C width of the last stage, h x w grid of its tokens, N = h w.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from softformer.layers.block import DropKind
from softformer.layers.convolution import Grid
from softformer.models.vision import options
from softformer.models.vision.blocks import make_block
from softformer.models.vision.features import FeatureMethods
from softformer.models.vision.options import (
    NUM_LANDMARKS,
    PAPER,
    AttentionKind,
    GlobalPool,
    LandmarkKind,
    LastStage,
    StemStride,
    WeightInit,
)
from softformer.models.vision.published_keys import convert, is_published, resize_to
from softformer.models.vision.stages import ConvStem, Downsample, Stage, to_map
from softformer.models.weight_files import plain_name
from softformer.ops.attention.backends import BackendName
from softformer.ops.inverse import Inverse
from softformer.ops.options import check_choice


class SoftVisionTransformer(FeatureMethods):
    """SOFT for images: stages of softmax-free blocks, then a softmax stage with a class token.

    Sides need not be multiples of the total stride: convolutions round up, and an incomplete landmark window at the
    right or lower edge gives no landmark. An image whose grid has no whole landmark window is an error that names the
    smallest side. `load_state_dict` takes the authors' layout, too, and resizes position embeddings.

    Beyond the papers, and off by default: ``landmarks="pool"`` and ``"adaptive"``, ``last_stage="soft"``,
    ``attention="softmax"`` (the same network with softmax in every stage, for comparison), ``stem_stride`` below 4.

    Args:
        img_size: Side of an image in pixels, or (height, width), for whose grids there are position embeddings. Images
            of other sizes get interpolated embeddings.
        in_chans: Channels of an image.
        num_classes: Number of classes; 0 for features.
        global_pool: ``"token"`` reads the class token, ``"avg"`` the mean over tokens, ``""`` nothing. None means the
            class token where there is one, else the mean.
        embed_dims: Width of each stage; its length is the number of stages.
        depths: Blocks of each stage.
        num_heads: Heads of each stage.
        mlp_ratio: Hidden width of the MLPs over the width of the stage, one for all stages or one for each.
        qkv_bias: Bias of queries, keys and values in a softmax last stage; SOFT blocks always have one.
        drop_rate: Dropout rate before the classifier.
        pos_drop_rate: Dropout rate after the position embeddings.
        proj_drop_rate: Dropout rate of attention outputs and in MLPs.
        drop_path_rate: Drop rate of residual branches in the last block, growing linearly from 0 in the first.
        attention: ``"soft"`` or ``"softmax"``.
        landmarks: ``"conv"`` (published), ``"pool"`` for means over the same windows, ``"adaptive"`` for a fixed number
            of means, so that cost stays linear at high resolution.
        landmark_strides: Side of the landmark windows of each SOFT stage, in tokens. None means .., 8, 4, 2 before a
            softmax stage, .., 8, 4, 2, 1 without one.
        num_landmarks: Number of landmarks of ``landmarks="adaptive"``, a square number.
        value_kernels: Side of the value convolution of each SOFT stage, odd, 0 for none. None means .., 9, 5, 3.
        inverse: `Newton` or `Cholesky`.
        symmetric_norm: Whether to normalize as in SOFT++.
        last_stage: ``"softmax"`` (published) or ``"soft"``, which has no class token.
        stem_stride: Total stride of the stem: 4, or 2 or 1 for small images.
        stem_width: Channels inside the stem.
        block_drop: Target of drop_path_rate in SOFT blocks: ``"element"``, single numbers as in the published code, or
            ``"path"``, whole branches. A softmax last stage always drops whole branches.
        weight_init: Initialization of the linear layers: ``"published"``, normal with a deviation of 0.02, for wide
            networks and long runs, or ``"xavier"``, by their widths, from which narrow networks learn faster.
        backend: Implementation of the attention.

    Raises:
        ValueError: An option is out of range or excludes another.

    Source: Lu et al. 2021 (arXiv 2110.11945), figure 2 and table 1; Lu et al. 2024 (arXiv 2207.03341); and the
    published code where they leave a choice.
    """

    def __init__(
        self,
        img_size: int | Sequence[int] = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: GlobalPool | None = None,
        embed_dims: Sequence[int] = (64, 128, 320, 512),
        depths: Sequence[int] = (1, 2, 3, 2),
        num_heads: Sequence[int] = (2, 4, 10, 16),
        mlp_ratio: float | Sequence[float] = 4.0,
        qkv_bias: bool = True,
        drop_rate: float = 0.0,
        pos_drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        attention: AttentionKind = "soft",
        landmarks: LandmarkKind = "conv",
        landmark_strides: Sequence[int] | None = None,
        num_landmarks: int = NUM_LANDMARKS,
        value_kernels: Sequence[int] | None = None,
        inverse: Inverse = PAPER,
        symmetric_norm: bool = False,
        last_stage: LastStage = "softmax",
        stem_stride: StemStride = 4,
        stem_width: int = 32,
        block_drop: DropKind = "element",
        weight_init: WeightInit = "published",
        backend: BackendName = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        rates = {
            "drop_rate": drop_rate,
            "pos_drop_rate": pos_drop_rate,
            "proj_drop_rate": proj_drop_rate,
            "drop_path_rate": drop_path_rate,
        }
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        blocks = options.BlockOptions(
            attention,
            landmarks,
            num_landmarks,
            inverse,
            symmetric_norm,
            qkv_bias,
            proj_drop_rate,
            block_drop,
            backend,
            factory,
        )
        options.check_all_positive("in_chans", [in_chans])
        options.check_sizes(num_classes, mlp_ratio, rates)
        options.check_attention(blocks, landmark_strides, last_stage)
        check_choice("weight_init", weight_init, WeightInit)
        check_choice("stem_stride", stem_stride, StemStride)
        options.check_all_positive("stem_width", [stem_width])
        shapes = options.stage_shapes(
            embed_dims, depths, num_heads, mlp_ratio, landmark_strides, value_kernels, last_stage
        )
        self.weight_init = weight_init
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.global_pool = options.resolve_pool(global_pool, last_stage, num_classes)
        self.num_features = self.head_hidden_size = shapes[-1].dim
        windowed = attention == "soft" and landmarks != "adaptive"
        self.smallest_side = options.smallest_side(shapes, stem_stride) if windowed else 1
        self.feature_info = [
            {"num_chs": shape.dim, "reduction": stem_stride * 2**stage, "module": f"stages.{stage}"}
            for stage, shape in enumerate(shapes)
        ]
        size = options.image_size(img_size)
        self._check_size(size, "img_size")
        grids = options.stage_grids(size, stem_stride, len(shapes))
        drops = iter(torch.linspace(0, drop_path_rate, sum(shape.depth for shape in shapes), device="cpu").tolist())
        self.stem = ConvStem(in_chans, stem_width, shapes[0].dim, stem_stride, **factory)
        self.stages = nn.ModuleList(
            Stage(
                shape.dim,
                grid,
                Downsample(shapes[number - 1].dim, shape.dim, **factory) if number else None,
                [make_block(shape, blocks, next(drops)) for _ in range(shape.depth)],
                class_token=shape.landmark_stride is None,
                pos_drop=pos_drop_rate,
                **factory,
            )
            for number, (shape, grid) in enumerate(zip(shapes, grids))
        )
        self.norm: nn.Module = nn.LayerNorm(self.num_features, eps=1e-6, **factory)
        self.head_drop = nn.Dropout(drop_rate)
        self.head: nn.Module = (
            nn.Linear(self.num_features, num_classes, **factory) if num_classes > 0 else nn.Identity()
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Initialize all parameters by `weight_init`, also after `to_empty` on a model built on meta."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                if self.weight_init == "xavier" and module is not self.head:
                    nn.init.xavier_uniform_(module.weight)
                else:
                    nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif module is not self and callable(reset := getattr(module, "reset_parameters", None)):
                reset()

    def _check_size(self, size: Grid, name: str) -> None:
        if min(size) < self.smallest_side:
            raise ValueError(
                f"{name} must be at least {self.smallest_side} pixels a side, got {size[0]} x {size[1]}: smaller ones "
                "leave a stage without a whole landmark window; use larger images, a smaller stem_stride, smaller "
                "landmark_strides or landmarks='adaptive'"
            )

    def _images(self, x: Tensor) -> Tensor:
        """The input, checked, in channels-last memory."""
        if x.ndim != 4 or x.shape[1] != self.in_chans:
            raise ValueError(f"x must have shape (batch, {self.in_chans}, height, width), got {tuple(x.shape)}")
        self._check_size((x.shape[2], x.shape[3]), "x")
        return x.contiguous(memory_format=torch.channels_last)

    def _encode(self, x: Tensor) -> tuple[Tensor, Grid]:
        """The tokens of the last stage after the final norm, with the class token first, if any; and their grid."""
        x = self.stem(self._images(x))
        for number, stage in enumerate(self.stages):
            tokens, grid = stage(x)
            if number + 1 < len(self.stages):
                x = to_map(tokens, grid)
        return self.norm(tokens), grid

    def forward_features(self, x: Tensor) -> Tensor:
        """The unpooled features, (B, C, h, w).

        With ``global_pool="token"`` each channel is shifted by a constant so that its mean over the map is the class
        token. So the average of the map is the feature that the classifier was trained on, and differences between
        places stay. Otherwise the map holds the tokens as they are.
        """
        return self._feature_map(*self._encode(x))

    def _feature_map(self, tokens: Tensor, grid: Grid) -> Tensor:
        prefix = tokens.shape[1] - grid[0] * grid[1]
        patches = tokens[:, prefix:]
        if self.global_pool == "token" and prefix:
            patches = patches + (tokens[:, :1] - patches.mean(1, keepdim=True))
        return to_map(patches, grid)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pooled features (B, C), or class scores (B, num_classes), of the map that `forward_features` returns."""
        return self._classify(x.mean((2, 3)) if self.global_pool else x, pre_logits)

    def _classify(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.head_drop(x)
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores (B, num_classes) of images (B, in_chans, height, width).

        With num_classes=0 the result is features (B, C), and with global_pool="", too, a map (B, C, h, w).

        Raises:
            ValueError: The number of channels is wrong, or the images are too small for the landmarks.
        """
        tokens, grid = self._encode(x)
        if self.global_pool == "token" and tokens.shape[1] > grid[0] * grid[1]:
            return self._classify(tokens[:, 0])
        return self.forward_head(self._feature_map(tokens, grid))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        """Load also the authors' layout, and position embeddings of another grid."""
        own = {key[len(prefix) :]: value for key, value in state_dict.items() if key.startswith(prefix)}
        adapted = adapt_state_dict(own, self)
        for key in own:
            del state_dict[prefix + key]
        state_dict.update({prefix + key: value for key, value in adapted.items()})
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def adapt_state_dict(state_dict: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """The state dict in the layout of `model`: published keys converted, position embeddings of other grids resized."""
    adapted = convert(state_dict) if is_published(state_dict) else dict(state_dict)
    shapes = {plain_name(name): tuple(parameter.shape) for name, parameter in model.named_parameters()}
    return resize_to(adapted, shapes)
