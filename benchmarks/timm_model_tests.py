"""Runs timm's own model tests against the SOFT variants.

    git clone --depth 1 https://github.com/huggingface/pytorch-image-models /tmp/timm
    python benchmarks/timm_model_tests.py /tmp/timm/tests/test_models.py [--models 'soft_tiny*'] [pytest options]

The file is run as it is. Only the list of models that it asks timm for is narrowed to the variants (`--models`), and
its filter by timm's own file names is lifted, because the variants live outside timm. Tests of TorchScript and FX
tracing are left out: custom operators and checks of the input's size do not trace. The exit status is pytest's.
"""

import argparse
import fnmatch
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import timm

import softformer.adapters.timm

# Markers that the file uses and that timm declares in its own pyproject.toml.
_MARKERS = ("base", "cfg", "torchscript", "features", "fxforward", "fxbackward", "timeout(seconds)")


def narrow_model_list(pattern: str) -> None:
    """Makes `timm.list_models` and `timm.list_pretrained` know nothing but the variants that match."""
    every = timm.list_models

    def list_models(filter: Any = "", module: Any = "", *args: Any, **kwargs: Any) -> list[str]:
        names = every(filter, "", *args, **kwargs)
        variants = set(fnmatch.filter(softformer.adapters.timm.default_cfgs, pattern))
        return [name for name in names if name.partition(".")[0] in variants]

    timm.list_models = list_models
    timm.list_pretrained = lambda filter="", exclude_filters="": list_models(
        filter, pretrained=True, exclude_filters=exclude_filters, include_tags=True
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="timm's tests/test_models.py")
    parser.add_argument("--models", default="soft_*", help="pattern of the variants to test")
    options, rest = parser.parse_known_args(arguments)
    if not options.path.is_file():
        parser.error(f"path must be timm's tests/test_models.py, and there is no file {options.path}")
    narrow_model_list(options.models)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "pytest.ini"
        config.write_text("[pytest]\nmarkers =\n" + "".join(f"    {marker}\n" for marker in _MARKERS))
        fixed = ["-c", str(config), "-p", "no:cacheprovider", "-k", "soft_ and not torchscript and not fx", "-ra"]
        return int(pytest.main([str(options.path), *fixed, *rest]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
