"""What timm's users call on a network besides forward: heads, intermediate features, groups, checkpointing."""

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from softformer.layers.convolution import Grid
from softformer.models.vision.options import GlobalPool, resolve_pool
from softformer.models.vision.stages import Stage, to_map

OutputFormat = Literal["NCHW", "NHWC", "NLC"]
Intermediate = Tensor | tuple[Tensor, Tensor]


class FeatureMethods(nn.Module, ABC):
    """Base of a pyramid with `stem`, `stages`, `norm` and `head`, that checks its input and makes its feature map."""

    in_chans: int
    num_classes: int
    num_features: int
    head_hidden_size: int
    global_pool: GlobalPool
    feature_info: list[dict[str, Any]]
    pretrained_cfg: dict[str, Any]
    stem: nn.Module
    stages: nn.ModuleList
    norm: nn.Module
    head: nn.Module

    def get_classifier(self) -> nn.Module:
        """The head: a Linear, or an Identity without classes."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: GlobalPool | None = None) -> None:
        """A new head of num_classes, none for 0, and another pooling where one is given.

        Raises:
            ValueError: The pooling is unknown or does not go with num_classes.
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
        """Keeps only the input of each block for the backward, and computes the rest again."""
        for stage in self.modules():
            if isinstance(stage, Stage):
                stage.grad_checkpointing = enable

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Names of position embeddings and class token, which take no weight decay."""
        return {
            name
            for name, _ in self.named_parameters()
            if name.rpartition(".")[2] in ("pos_embed", "class_pos", "class_token")
        }

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
        """The features of chosen stages, and those of `forward_features`.

        Args:
            x: Pictures (B, in_chans, height, width).
            indices: Stages to return: their numbers, or a number for the last so many, or None for all.
            return_prefix_tokens: Return each stage as a pair with its prefix tokens (B, 1 or 0, C).
            norm: Apply the final norm to the last stage.
            stop_early: Stop after the last stage asked for.
            output_fmt: ``"NCHW"``, ``"NHWC"`` or ``"NLC"``.
            intermediates_only: Leave the final features out.

        Returns:
            (final features, list of stages), or the list alone.

        Raises:
            ValueError: An unknown format or a stage that does not exist.
        """
        # timm passes a member of an Enum that is a str too, whose equality is that of the string.
        form = next((known for known in ("NCHW", "NHWC", "NLC") if known == output_fmt), None)
        if form is None:
            raise ValueError(f"output_fmt must be one of 'NCHW', 'NHWC', 'NLC', got {output_fmt!r}")
        taken = take_indices(len(self.stages), indices)
        features: list[Intermediate] = []
        picture = self.stem(self._pictures(x))
        last = max(taken) if stop_early else len(self.stages) - 1
        for number, stage in enumerate(self.stages):
            if number > last:
                break
            tokens, grid = stage(picture)
            final = number + 1 == len(self.stages)
            if number in taken:
                kept = self.norm(tokens) if norm and final else tokens
                prefix = stage.num_prefix_tokens
                patches = _formatted(kept[:, prefix:], grid, form)
                features.append((patches, kept[:, :prefix]) if return_prefix_tokens else patches)
            if not final:
                picture = to_map(tokens, grid)
        if intermediates_only:
            return features
        return self._feature_map(self.norm(tokens) if final else tokens, grid), features

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Removes what the features of the given stages do not need; returns the stages' numbers.

        Args:
            indices: Stages to keep features of, as in `forward_intermediates`.
            prune_norm: Remove the final norm. It always goes with the last stage.
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
    def _pictures(self, x: Tensor) -> Tensor:
        """The input, checked, in the memory layout of the stem."""

    @abstractmethod
    def _feature_map(self, tokens: Tensor, grid: Grid) -> Tensor:
        """The last stage's tokens as a map (B, C, h, w)."""


def take_indices(stages: int, indices: int | list[int] | tuple[int, ...] | None) -> list[int]:
    """Numbers of stages: all for None, the last so many for a number, else as listed, negative ones from the end.

    Raises:
        ValueError: A stage does not exist.
    """
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
