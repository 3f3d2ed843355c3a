"""Encoders as configuration: what a task is given instead of a network, so that recipes and checkpoints stay plain."""

import difflib
from abc import ABC, abstractmethod
from typing import Literal, get_args

import timm
from torch import nn

import softformer.adapters.timm  # noqa: F401  (registers the SOFT variants)
from softformer.layers.block import DropKind
from softformer.models.vision.options import AttentionKind, GlobalPool, LandmarkKind, LastStage, WeightInit
from softformer.ops.attention.backends import BackendName
from softformer.ops.inverse import Inverse
from softformer.training.specs import Spec

SoftVariant = Literal[
    "soft_tiny",
    "soft_small",
    "soft_medium",
    "soft_large",
    "soft_huge",
    "soft_norm_tiny",
    "soft_norm_small",
    "soft_norm_medium",
    "soft_norm_large",
    "soft_norm_huge",
]


class EncoderSpec(Spec, ABC):
    """Describes a network and builds it.

    Subclass it to use a network of your own in any task, from Python or, by ``class_path``, from YAML. The arguments
    of ``__init__`` are remembered without further code. An argument named ``pretrained`` is stored as False in
    checkpoints, whose own weights follow.
    """

    @abstractmethod
    def build(self) -> nn.Module:
        """A new network.

        An image network either has timm's ``reset_classifier`` and its own head, or has ``num_features`` and maps
        (B, C, H, W) to (B, num_features).
        """


class TimmSpec(EncoderSpec):
    """Any model of timm, the SOFT variants among them.

    Args:
        name: Name of the model as `timm.list_models` prints it, or ``hf-hub:...`` or ``local-dir:...``.
        pretrained: Whether to load timm's weights.
        img_size: Height and width of the images in pixels, for models whose parameters depend on it.
        in_chans: Channels of the images.
        drop_rate: Dropout before the head.
        drop_path_rate: Stochastic depth.
    """

    def __init__(
        self,
        name: str,
        *,
        pretrained: bool = False,
        img_size: int | None = None,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        self.name = name
        self.pretrained = pretrained
        self.img_size = img_size
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.drop_path_rate = drop_path_rate

    def build(self) -> nn.Module:
        """The timm model.

        Raises:
            ValueError: timm knows no such model, has no weights for it, or it lacks one of the options.
        """
        check_timm_name(self.name)
        if self.pretrained and ":" not in self.name and not timm.is_model_pretrained(self.name):
            raise ValueError(f"pretrained=True, but timm has no weights for {self.name!r}; set pretrained to false")
        # Not every model takes these, so they are passed where they say something.
        options = {
            "img_size": self.img_size,
            "drop_rate": self.drop_rate or None,
            "drop_path_rate": self.drop_path_rate or None,
        }
        given = {name: value for name, value in options.items() if value is not None}
        try:
            return timm.create_model(self.name, pretrained=self.pretrained, in_chans=self.in_chans, **given)
        except TypeError as error:
            raise ValueError(f"the model {self.name!r} does not take one of {', '.join(given)}: {error}") from error


class SoftVisionSpec(EncoderSpec):
    """A published SOFT variant, with any option of `softformer.SoftVisionTransformer` changed.

    Options left out (null) keep the value of the variant; they are described there.

    Args:
        name: Published variant to start from; ``soft_norm_...`` are SOFT++.
        img_size: Height and width in pixels whose grid the position embeddings have; other sizes work too.
        in_chans: Channels of the images.
        global_pool: ``token``, ``avg``, or nothing.
        embed_dims: Width of each stage; their number is that of the stages.
        depths: Blocks of each stage.
        num_heads: Heads of each stage.
        mlp_ratio: Width of the MLPs over that of the stage, one for all or one a stage.
        qkv_bias: Bias of queries, keys and values in a softmax last stage.
        drop_rate: Dropout rate before the classifier.
        pos_drop_rate: Dropout rate after the position embeddings.
        proj_drop_rate: Dropout rate of attention outputs and in MLPs.
        drop_path_rate: Drop rate of residual branches in the last block, growing from 0 in the first.
        attention: ``soft``, or ``softmax`` in the same network for comparison.
        landmarks: ``conv`` (published), ``pool``, or ``adaptive`` for a fixed number of landmarks.
        landmark_strides: Side of the landmark windows of each SOFT stage, in tokens.
        num_landmarks: Number of ``adaptive`` landmarks, a square number.
        value_kernels: Side of the value convolution of each SOFT stage, odd, 0 for none.
        inverse: ``Newton`` or ``Cholesky``, with options of its own.
        symmetric_norm: Whether to normalize as in SOFT++.
        last_stage: ``softmax`` (published) or ``soft``.
        stem_stride: Total stride of the stem: 4, or 2 or 1 for small images.
        stem_width: Channels inside the stem.
        block_drop: What drop_path_rate drops in SOFT blocks: ``element`` (published) or ``path``.
        weight_init: Start of the linear layers: ``published``, or ``xavier``, from which narrow networks learn faster.
        backend: Implementation of the attention.
    """

    def __init__(
        self,
        name: SoftVariant = "soft_tiny",
        *,
        img_size: int | tuple[int, int] | None = None,
        in_chans: int = 3,
        global_pool: GlobalPool | None = None,
        embed_dims: list[int] | None = None,
        depths: list[int] | None = None,
        num_heads: list[int] | None = None,
        mlp_ratio: float | list[float] | None = None,
        qkv_bias: bool | None = None,
        drop_rate: float | None = None,
        pos_drop_rate: float | None = None,
        proj_drop_rate: float | None = None,
        drop_path_rate: float | None = None,
        attention: AttentionKind | None = None,
        landmarks: LandmarkKind | None = None,
        landmark_strides: list[int] | None = None,
        num_landmarks: int | None = None,
        value_kernels: list[int] | None = None,
        inverse: Inverse | None = None,
        symmetric_norm: bool | None = None,
        last_stage: LastStage | None = None,
        stem_stride: Literal[4, 2, 1] | None = None,
        stem_width: int | None = None,
        block_drop: DropKind | None = None,
        weight_init: WeightInit | None = None,
        backend: BackendName | None = None,
    ) -> None:
        """Remember the options; `build` checks them."""

    def build(self) -> nn.Module:
        """The network.

        Raises:
            ValueError: The variant is unknown, or an option is out of range or does not go with another.
        """
        options = {name: value for name, value in self.init_args.items() if value is not None}
        name = options.pop("name")
        if name not in get_args(SoftVariant):
            raise ValueError(f"name must be one of {', '.join(get_args(SoftVariant))}, got {name!r}")
        return timm.create_model(name, **options)


def check_timm_name(name: str) -> None:
    """Accept the names that timm can build.

    Raises:
        ValueError: There is no such model, or none with such a tag; the message lists the nearest names or all tags.
    """
    plain = name.split(".")[0]
    if ":" in name:
        return
    if timm.is_model(plain):
        valid = {plain, *timm.list_models(plain, include_tags=True)}
        if name in valid:
            return
        raise ValueError(
            f"name must be a model of timm, got {name!r}: {plain} has no such tag. Valid: {', '.join(sorted(valid))}"
        )
    nearest = difflib.get_close_matches(plain, timm.list_models(), n=8, cutoff=0.5)
    raise ValueError(
        f"name must be a model of timm, got {name!r}."
        f" Nearest: {', '.join(nearest) or 'none'}. SOFT variants: {', '.join(timm.list_models('soft_*'))}."
        f' All: python -c "import timm; print(timm.list_models())"'
    )
