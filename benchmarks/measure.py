"""Time and memory of functions: paired interleaved runs, medians, and the rates that a floor is made of."""

import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

Function = Callable[[], object]
_FLUSHED_BYTES = 256 << 20
# About a second.
_MOST_CYCLES = 1 << 31


class Timer:
    """Times functions on a device, one after the other and round after round, so that drift meets them all.

    Args:
        device: Where they run. On a GPU the caches are overwritten before every run.
        rounds: Most rounds.
        seconds: When to stop earlier, in seconds, after at least three rounds, or one where one takes that long; where
            the first, which otherwise does not count, takes as long, it is the only one.
        ahead: Whether a GPU waits until the host has launched all that a function does, so that the time is the
            device's alone and not that of a slow host.
    """

    def __init__(self, device: torch.device, rounds: int = 200, seconds: float = 10.0, ahead: bool = False) -> None:
        self.device, self.rounds, self.seconds = device, rounds, seconds
        self._cycles = 1 << 20 if ahead else 0
        self._flush = torch.empty(_FLUSHED_BYTES, dtype=torch.int8, device=device) if device.type == "cuda" else None

    def medians(self, functions: dict[str, Function]) -> dict[str, float]:
        """Seconds of a run of each function, by name."""
        first = {name: [self._once(function)] for name, function in functions.items()}
        if sum(spent for (spent,) in first.values()) > self.seconds:
            return {name: spent for name, (spent,) in first.items()}
        times: dict[str, list[float]] = {name: [] for name in functions}
        begin = time.perf_counter()
        for done in range(self.rounds):
            spent = time.perf_counter() - begin
            if spent > self.seconds and (done >= 3 or spent > self.seconds * done):
                break
            for name, function in functions.items():
                times[name].append(self._once(function))
        return {name: statistics.median(values) for name, values in times.items()}

    def _once(self, function: Function) -> float:
        if self._flush is None:
            begin = time.perf_counter()
            function()
            return time.perf_counter() - begin
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        while True:
            self._flush.zero_()
            if self._cycles:
                torch.cuda._sleep(self._cycles)
            start.record()
            function()
            # A device that has passed the start before the last launch may have waited for the host.
            late = 0 < self._cycles < _MOST_CYCLES and start.query()
            stop.record()
            stop.synchronize()
            if not late:
                return start.elapsed_time(stop) / 1e3
            self._cycles *= 2


def peak_memory(function: Function, device: torch.device, before: Function | None = None) -> int:
    """Bytes that a run has in use at most beyond what was in use before it.

    On the CPU this is the growth of the resident set, which is right only in a process whose allocator gives memory
    back at once: see `benchmarks.own_process`.

    Args:
        function: What is run.
        device: Where.
        before: What runs first, as a first run loads libraries; None for the function itself.
    """
    (before or function)()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        allocated = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        function()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - allocated
    Path("/proc/self/clear_refs").write_text("5")
    resident = _status("VmRSS")
    function()
    return max(0, _status("VmHWM") - resident)


def _status(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def copy_bandwidth(timer: Timer) -> float:
    """Bytes a second that a large copy reads and writes."""
    source = torch.ones(256 << 20, dtype=torch.uint8, device=timer.device)
    target = torch.empty_like(source)
    seconds = timer.medians({"copy": lambda: target.copy_(source)})["copy"]
    return 2 * source.numel() / seconds


def product_rate(timer: Timer, left: Tensor, right: Tensor, repeats: int = 50) -> float:
    """Multiplications with additions a second of the product of two matrices that stay in cache."""
    out = left @ right

    def run() -> None:
        for _ in range(repeats):
            torch.matmul(left, right, out=out)

    return repeats * out.numel() * left.shape[-1] / timer.medians({"product": run})["product"]


def exponential_rate(timer: Timer, x: Tensor, repeats: int = 50) -> float:
    """Exponentials a second of a tensor that stays in cache."""
    out = torch.empty_like(x)

    def run() -> None:
        for _ in range(repeats):
            torch.exp(x, out=out)

    return repeats * x.numel() / timer.medians({"exp": run})["exp"]
