"""What the Triton kernels need of the installation, besides a GPU."""

import os
import shutil
from functools import cache

import torch


@cache
def missing_requirement() -> str | None:
    """The reason why kernels cannot be compiled or launched with this installation, or None."""
    if torch.version.hip is not None:
        return "its kernels are compiled for CUDA only, and this torch is built for ROCm"
    compilers = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
    if not any(map(shutil.which, compilers)):
        return (
            f"Triton builds its launcher with a C compiler, and found no {' or '.join(compilers)}; "
            "install one, or set the environment variable CC to its path"
        )
    return None
