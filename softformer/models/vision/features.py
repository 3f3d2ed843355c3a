"""The methods of timm's models besides forward: heads, intermediate features, groups, checkpointing."""

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from softformer.layers.convolution import Grid
from softformer.models.vision.options import GlobalPool, resolve_pool
from softformer.models.vision.stages import Stage, to_map
from softformer.ops.options import check_choice

OutputFormat = Literal["NCHW", "NHWC", "NLC"]
Intermediate = Tensor | tuple[Tensor, Tensor]


class FeatureMethods(nn.Module, ABC):
    """Base of a pyramid with `stem`, `stages`, `norm` and `head`, that checks its input and makes its feature map."""

    num_classes: int
    num_features: int
    global_pool: GlobalPool
    pretrained_cfg: dict[str, Any]
    stem: nn.Module
    stages: nn.ModuleList
    norm: nn.Module
    head: nn.Module

    def get_classifier(self) -> nn.Module:
        """The head: a Linear, or an Identity without classes."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: GlobalPool | None = None) -> None:
        """Replace the head by a new one of num_classes, none for 0, and the pooling where one is given.

        Raises:
            ValueError: The pooling is unknown or does not fit num_classes.
        """
        pool = self.global_pool if global_pool is None else global_pool
        tokens = any(isinstance(stage, Stage) and stage.num_prefix_tokens for stage in self.stages)
        self.global_pool = resolve_pool(pool, "softmax" if tokens else "soft", num_classes)
        self.num_classes = num_classes
        self.head = nn.Identity()
        if num_classes > 0:
            like = next(self.parameters())
            head = nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype)
            nn.init.trunc_normal_(head.weight, std=0.02)
            nn.init.zeros_(head.bias)
            self.head = head

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Save only the input of each block for the backward, which computes the rest again."""
        for stage in self.modules():
            if isinstance(stage, Stage):
                stage.grad_checkpointing = enable

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Names of position embeddings and class token, which take no weight decay."""
        exempt = ("pos_embed", "class_pos", "class_token")
        return {name for name, _ in self.named_parameters() if name.rpartition(".")[2] in exempt}

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns of timm's layer groups, for layer-wise learning rates: stem, then stages, or their blocks."""
        blocks = [
            (r"^stages\.(\d+)\.(?:downsample|pos_embed|class_)", (0,)),
            (r"^stages\.(\d+)\.blocks\.(\d+)", None),
            (r"^norm", (99999,)),
        ]
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else blocks}

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: OutputFormat = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Intermediate] | tuple[Tensor, list[Intermediate]]:
        """The features of chosen stages, and the features that `forward_features` returns.

        Args:
            x: Images (B, in_chans, height, width).
            indices: Stages to return: their numbers, or the number of last stages, or None for all.
            return_prefix_tokens: Return each stage as a pair with its prefix tokens (B, 1 or 0, C).
            norm: Apply the final norm to the last stage.
            stop_early: Stop after the last stage in indices.
            output_fmt: ``"NCHW"``, ``"NHWC"``, or ``"NLC"``.
            intermediates_only: Leave the final features out.

        Returns:
            (final features, list of stages), or the list alone.

        Raises:
            ValueError: The format is unknown or a stage does not exist.
        """
        check_choice("output_fmt", output_fmt, OutputFormat)
        taken = take_indices(len(self.stages), indices)
        features: list[Intermediate] = []
        image = self.stem(self._images(x))
        last = max(taken) if stop_early else len(self.stages) - 1
        for number, stage in enumerate(list(self.stages)[: last + 1]):
            tokens, grid = stage(image)
            final = number + 1 == len(self.stages)
            if number in taken:
                normed = self.norm(tokens) if norm and final else tokens
                prefix = stage.num_prefix_tokens
                patches = _formatted(normed[:, prefix:], grid, output_fmt)
                features.append((patches, normed[:, :prefix]) if return_prefix_tokens else patches)
            if not final:
                image = to_map(tokens, grid)
        if intermediates_only:
            return features
        return self._feature_map(self.norm(tokens) if final else tokens, grid), features

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove the modules behind the given stages, and return the numbers of these stages.

        Args:
            indices: Stages whose features stay available, as in `forward_intermediates`.
            prune_norm: Remove the final norm. It is always removed with the last stage.
            prune_head: Remove the classifier and the pooling.
        """
        taken = take_indices(len(self.stages), indices)
        if prune_norm or max(taken) + 1 < len(self.stages):
            self.norm = nn.Identity()
        self.stages = self.stages[: max(taken) + 1]
        if prune_head:
            self.reset_classifier(0, "")
        return taken

    @abstractmethod
    def _images(self, x: Tensor) -> Tensor:
        """The input, checked, in the memory layout of the stem."""

    @abstractmethod
    def _feature_map(self, tokens: Tensor, grid: Grid) -> Tensor:
        """The tokens of the last stage as a map (B, C, h, w)."""


def take_indices(stages: int, indices: int | list[int] | tuple[int, ...] | None) -> list[int]:
    """Numbers of stages: all for None, the last ones for a number, else as listed, negative ones from the end."""
    if indices is None:
        return list(range(stages))
    if isinstance(indices, int):
        if not 0 < indices <= stages:
            raise ValueError(f"indices must be between 1 and {stages} as a number of last stages, got {indices}")
        return list(range(stages - indices, stages))
    if not indices or any(not -stages <= index < stages for index in indices):
        raise ValueError(f"indices must be stages between 0 and {stages - 1}, at least one, got {list(indices)}")
    return [index % stages for index in indices]


def _formatted(patches: Tensor, grid: Grid, form: str) -> Tensor:
    """Tokens (B, N, C) as (B, C, h, w), (B, h, w, C) or as they are."""
    if form == "NLC":
        return patches
    return to_map(patches, grid) if form == "NCHW" else patches.unflatten(1, grid)
