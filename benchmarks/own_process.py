"""A measurement in a process of its own, where nothing that ran before is in its way."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

# Environment in which `peak_memory` on the CPU is right: every larger block is mapped and unmapped.
_RETURNS_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def in_own_process(module: str, *arguments: str, memory: bool = False, patience: float | None = None) -> Any:
    """What `python -m module arguments` prints, which is JSON.

    Args:
        module: Its name.
        arguments: Of its command line.
        memory: Whether it measures memory on the CPU, for which its allocator must give back what is freed.
        patience: Seconds after which it is given up; None for never.

    Raises:
        MemoryError: Memory did not suffice.
        TimeoutError: It took too long.
        RuntimeError: It failed otherwise; its last lines are in the message.
    """
    command = [sys.executable, "-m", module, *arguments]
    environment = {**os.environ, **(_RETURNS_MEMORY if memory else {})}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=patience, check=False)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{' '.join(command)} took more than {patience:g} s") from error
    if done.returncode == 0:
        return json.loads(done.stdout)
    said = f"{' '.join(command)} failed:\n{done.stderr[-2000:]}"
    if done.returncode == -signal.SIGKILL or "memory" in done.stderr:
        raise MemoryError(said)
    raise RuntimeError(said)
