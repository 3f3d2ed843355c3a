"""The names of weights in our text networks and in the Auto classes, and the conversion between them."""

from collections.abc import Mapping
from typing import Any

_BASE = "softformer."
# Prefixes of names in a text network, and in a model of the Auto classes.
CLASSIFIER = {"backbone.": f"{_BASE}backbone.", "pooling.": "pooling.", "head.": "classifier."}
MASKED = {"backbone.": f"{_BASE}backbone.", "head.": "lm_head."}


def renamed(state: Mapping[str, Any], prefixes: Mapping[str, str]) -> dict[str, Any]:
    """The entries whose names have one of the prefixes, with the new prefix in its place."""
    return {
        new + name.removeprefix(old): value
        for name, value in state.items()
        for old, new in prefixes.items()
        if name.startswith(old)
    }


def network_names(state: Mapping[str, Any]) -> dict[str, Any]:
    """Weights that an Auto class of ours saved, with the names of our text networks; other weights stay as they are."""
    if not any(name.startswith(_BASE) for name in state):
        return dict(state)
    back = {new: old for table in (CLASSIFIER, MASKED) for old, new in table.items()}
    # The output layer is the token embedding, which has another name already.
    return renamed(state, back) | {
        name: value for name, value in state.items() if not name.startswith((*back, "decoder."))
    }
