"""Names of weights: those of our text networks and tasks, and those of the Auto classes."""

from collections.abc import Mapping
from typing import Any

_BASE = "softformer."
# From the beginnings of names in a text network to those in a model of the Auto classes.
CLASSIFIER = {"backbone.": f"{_BASE}backbone.", "pooling.": "pooling.", "head.": "classifier."}
MASKED = {"backbone.": f"{_BASE}backbone.", "head.": "lm_head."}


def renamed(state: Mapping[str, Any], beginnings: Mapping[str, str]) -> dict[str, Any]:
    """The entries whose names have one of the beginnings, with the new one in its place."""
    found = {}
    for name, value in state.items():
        old = next((beginning for beginning in beginnings if name.startswith(beginning)), None)
        if old is not None:
            found[beginnings[old] + name.removeprefix(old)] = value
    return found


def network_names(state: Mapping[str, Any]) -> dict[str, Any]:
    """Weights that an Auto class of ours saved, under the names of our text networks; others as they are."""
    if not any(name.startswith(_BASE) for name in state):
        return dict(state)
    back = {new: old for table in (CLASSIFIER, MASKED) for old, new in table.items()}
    # The output layer is the token embedding, which has another name already.
    known = renamed(state, back)
    return known | {name: value for name, value in state.items() if not name.startswith((*back, "decoder."))}
