"""One speech recognizer with softmax-free and with softmax attention, from ten seconds to hours.

    python -m benchmarks.audio --local /folder/of/data
    python -m benchmarks.audio --seconds 10 60 600 3600 10800 --runs none

Time and peak memory of inference and of a training step, from the waveform on: 6 layers of width 144 with 4 heads and
64 landmarks; softmax is torch's fused attention in the same encoder. The waveform is of spoken digits, joined, with
--local, and noise without, which costs the same. The transcript has 50 units whatever the length,
as the cost of the loss grows with tokens times units and is the same for both. Then the word error rate of the recipe
audio/connected_digits, each network trained for the same epochs; and that of hours of test strings joined, in
overlapping windows and in one pass, beside that of the same strings one by one. Writes
benchmarks/results/audio_DEVICE_DATE.json and .md; figures of an earlier run of the same day are kept, with their
commit, unless they are measured again. An hour of softmax takes two cores a good part of an hour:
--seconds 10 60 600 leaves it out; --attentions soft, too.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import Timer, peak_memory
from benchmarks.own_process import in_own_process
from benchmarks.report import (
    describe_machine,
    device_parser,
    markdown_table,
    parse_device,
    results_file,
    with_new_rows,
    write_results,
)
from benchmarks.training_runs import SOFTMAX_ENCODER, training_run
from softformer.models.audio.features import LogMel
from softformer.models.audio.network import AudioBackbone, SpeechNetwork
from softformer.models.sequence import SequenceAttention, SoftEncoder
from tasks.audio.speech.ctc import ctc_loss

Row = dict[str, Any]

ATTENTIONS: list[SequenceAttention] = ["soft", "softmax"]
SECONDS = [10, 60, 600, 3600]
RATE, UNITS, WRITTEN = 16_000, 32, 50
WIDTH, DEPTH, HEADS = 144, 6, 4
# Options of the recipe audio/connected_digits. What softmax does not use has to be back at its default, which means
# that it is not set.
_NO_CONVOLUTION = ["--model.encoder.soft.value_kernel", "0"]
NETWORKS = {
    "SOFT": [],
    "SOFT, no value convolution": _NO_CONVOLUTION,
    "softmax": [*SOFTMAX_ENCODER, *_NO_CONVOLUTION],
}
_COLUMNS = {
    "speed": ("seconds", "attention"),
    "wer": ("network",),
    "joined": ("network", "hours", "heard", "landmarks"),
}


def main() -> None:
    """Measure what was asked for, and write the tables after each row."""
    parser = device_parser(__doc__)
    parser.add_argument("--seconds", nargs="*", type=int, default=SECONDS, help="durations, for time and memory")
    parser.add_argument("--attentions", nargs="*", default=ATTENTIONS, choices=ATTENTIONS, help="for time and memory")
    parser.add_argument(
        "--budget", type=float, default=30.0, help="seconds for one time; a run that takes longer is made once"
    )
    parser.add_argument("--patience", type=float, default=7200.0, help="seconds after which a measurement is given up")
    parser.add_argument("--longest", action="store_true", help="also find the longest recording, by doubling")
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS), help="to train")
    parser.add_argument("--landmarks", nargs="*", type=int, default=[256, 1024], help="more of them, for one pass")
    parser.add_argument("--hours", nargs="*", type=float, default=[1.0, 3.0], help="of joined strings")
    parser.add_argument("--local", type=Path, help="folder that holds fsdd/train.parquet and fsdd/test.parquet")
    parser.add_argument("--runs", default="runs/benchmark", help="where the runs' folders go; none to train nothing")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parse_device(parser)
    if arguments.measure:
        print(json.dumps(measured(**json.loads(arguments.measure))))
        return
    machine = describe_machine()
    file = results_file("audio", arguments.device)
    known: dict[str, list[Row]] = json.loads(file.read_text()) if file.exists() else {}
    tables = {name: known.get(name, []) for name in _COLUMNS}

    def keep(name: str, row: Row) -> None:
        tables[name] = with_new_rows(tables[name], [{**row, "commit": machine["commit"]}], _COLUMNS[name])
        text = report(machine, tables)
        write_results(file, {**machine, **tables}, text)
        print(text, flush=True)

    for seconds in arguments.seconds:
        for attention in arguments.attentions:
            keep("speed", {"seconds": seconds, "attention": attention, **_speed(attention, seconds, arguments)})
    if arguments.longest:
        for attention in arguments.attentions:
            print(
                f"{attention}: the longest recording in one pass lasts {_longest(attention, arguments)} s", flush=True
            )
    if arguments.runs == "none":
        return
    checkpoints: dict[str, Path] = {}
    for network in arguments.networks:
        options = ["--config", "audio/connected_digits", *NETWORKS[network]]
        if arguments.local is not None:
            options += ["--data.data_dir", str(arguments.local / "fsdd")]
        name = f"connected_digits-{network.replace(' ', '_').replace(',', '')}"
        keep("wer", {"network": network, **training_run(name, options, Path(arguments.runs))})
        checkpoints[network] = Path(arguments.runs) / name / "checkpoints" / "best.ckpt"
    # Hours are heard here after all training: the peak memory of a process begins with that of the one that started it.
    for network, checkpoint in checkpoints.items():
        for hours in arguments.hours:
            for row in joined_strings(checkpoint, hours, arguments.landmarks, arguments.local):
                keep("joined", {"network": network, "hours": hours, **row})


def build(attention: SequenceAttention, device: str) -> SpeechNetwork:
    """The recognizer, with random weights."""
    torch.manual_seed(0)
    encoder = SoftEncoder(WIDTH, DEPTH, HEADS, attention=attention)
    return SpeechNetwork(AudioBackbone(LogMel(RATE), encoder), UNITS).to(device)


def inference(network: SpeechNetwork, wave: Tensor) -> Callable[[], Any]:
    """A forward in eval mode."""
    length = torch.tensor([wave.shape[1]], device=wave.device)

    def run() -> Any:
        with torch.inference_mode():
            return network.eval()(wave, length)

    return run


def training(network: SpeechNetwork, wave: Tensor) -> Callable[[], Any]:
    """A step of training."""
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    length = torch.tensor([wave.shape[1]], device=wave.device)
    # Neighbours differ, so that every token may hold a unit.
    units = 1 + torch.arange(WRITTEN, device=wave.device)[None] % (UNITS - 1)
    count = torch.tensor([WRITTEN], device=wave.device)

    def run() -> None:
        network.train()
        optimizer.zero_grad()
        ctc_loss(*network(wave, length), units, count).backward()
        optimizer.step()

    return run


def recording(seconds: int, local: str | None) -> Tensor:
    """Samples (T,) of so many seconds: the test clips of spoken digits again and again, or noise.

    Args:
        seconds: How long.
        local: Folder that holds fsdd; None for noise.
    """
    if local is None:
        return 0.1 * torch.randn(seconds * RATE)
    import datasets

    from tasks.audio.reading.waveforms import read_waveform

    rows = datasets.Dataset.from_parquet(str(Path(local) / "fsdd" / "test.parquet"))
    clips = torch.cat([read_waveform(row["audio"], RATE) for row in rows])
    return clips.repeat(1 + seconds * RATE // len(clips))[: seconds * RATE]


def measured(
    what: str, attention: SequenceAttention, seconds: int, device: str, budget: float, local: str | None = None
) -> Row:
    """Of "inference" or "training", the seconds ("time") or the bytes beyond weights and waveform ("memory").

    Args:
        what: Such as "inference memory"; "inference" alone makes but one run, to see whether it fits.
        attention: Of the encoder.
        seconds: The recording's duration.
        device: Where to measure.
        budget: Seconds for the runs of one time; a run that takes longer is made once.
        local: As in `recording`.
    """
    kind, _, figure = what.partition(" ")
    network, place = build(attention, device), torch.device(device)
    wave = recording(seconds, local)[None].to(device)
    make = {"inference": inference, "training": training}[kind]
    # What a first run loads and allocates is no matter of the recording: a short one runs before.
    short, run = make(network, wave[:, : SECONDS[0] * RATE]), make(network, wave)
    if figure == "memory":
        return {f"{kind}_bytes": peak_memory(run, place, short)}
    if figure == "time":
        short()
        return {f"{kind}_seconds": Timer(place, rounds=20, seconds=budget).medians({kind: run})[kind]}
    run()
    return {}


def measured_apart(request: Row, patience: float | None = None) -> Row:
    """What `measured` finds in a process of its own.

    Args:
        request: Its arguments.
        patience: Seconds after which it is given up; None for never.

    Raises:
        MemoryError: Memory does not suffice.
        TimeoutError: It takes too long.
    """
    options = ["--device", request["device"], "--measure", json.dumps(request)]
    memory = request["what"].endswith("memory")
    return in_own_process("benchmarks.audio", *options, memory=memory, patience=patience)


def _apart(what: str, attention: str, seconds: int, arguments: argparse.Namespace) -> Row | None:
    """What `measured` finds in a process of its own; None where memory does not suffice or it takes too long."""
    local = None if arguments.local is None else str(arguments.local)
    request = {"what": what, "attention": attention, "seconds": seconds, "device": arguments.device, "local": local}
    try:
        return measured_apart({**request, "budget": arguments.budget}, arguments.patience)
    except (MemoryError, TimeoutError):
        return None


def _speed(attention: SequenceAttention, seconds: int, arguments: argparse.Namespace) -> Row:
    """Time and memory; what could not be measured is missing."""
    found: Row = {}
    for what in ("inference time", "inference memory", "training time", "training memory"):
        found |= _apart(what, attention, seconds, arguments) or {}
    return found


def _longest(attention: SequenceAttention, arguments: argparse.Namespace) -> int:
    """The longest duration, in seconds, of 600 doubled again and again, whose inference works; 0 for none."""
    longest, seconds = 0, 600
    while _apart("inference", attention, seconds, arguments) is not None:
        longest, seconds = seconds, 2 * seconds
    return longest


def joined_strings(checkpoint: Path, hours: float, landmarks: list[int], local: Path | None) -> list[Row]:
    """Word error rates of test strings one by one, and of all joined, in windows and in one pass.

    Args:
        checkpoint: A recognizer of connected digits.
        hours: How many of strings; other draws of the test takes follow the test split's own.
        landmarks: Numbers of landmarks for further passes, where they are means, which can be made of any number.
        local: Folder that holds fsdd.
    """
    import softformer
    from softformer.layers.landmarks import SegmentLandmarks
    from tasks.audio.built_in.connected_digits import connected_digits
    from tasks.audio.reading.waveforms import read_waveform
    from tasks.audio.speech.error_rates import WordErrors

    task: Any = softformer.load(checkpoint)
    # Strings last four seconds on average; those of the recipe's test split come first.
    rows = connected_digits(None if local is None else str(local / "fsdd"), num_test=max(300, int(1800 * hours)))
    waves: list[Tensor] = []
    texts: list[str] = []
    missing = 3600 * hours * task.sample_rate
    for row in rows["test"]:
        waves.append(read_waveform(row["audio"], task.sample_rate))
        texts.append(row["text"])
        missing -= len(waves[-1])
        if missing <= 0:
            break
    backbone: AudioBackbone = task.network.backbone
    pooled = [module for module in task.modules() if isinstance(module, SegmentLandmarks)]
    own = pooled[0].num_landmarks if pooled else 0
    found: list[Row] = []

    def hear(name: str, several: list[Tensor], spoken: list[str], number: int) -> None:
        for module in pooled:
            module.num_landmarks = number
        begin = time.perf_counter()
        heard = [transcript.text for transcript in task.predict(several)]
        row = {"heard": name, "landmarks": number, "strings": len(texts), "seconds": time.perf_counter() - begin}
        found.append({**row, "wer": float(WordErrors()(heard, spoken))})

    hear("one by one", waves, texts, own)
    joined, spoken = [torch.cat(waves)], [" ".join(texts)]
    hear(f"windows of {int(backbone.longest) * backbone.token_seconds:.1f} s", joined, spoken, own)
    backbone.windows = None
    for number in [own, *(landmarks if pooled else [])]:
        hear("one pass", joined, spoken, number)
    return found


def report(machine: Row, tables: dict[str, list[Row]]) -> str:
    """The tables, and what they were measured on."""
    sizes = f"Width {WIDTH}, {HEADS} heads, {DEPTH} blocks, 64 landmarks, {RATE:,} Hz, float32; one recording."
    parts = [f"{machine['text']} {sizes}", _speed_table(tables["speed"])]
    if tables["wer"]:
        parts.append(_wer_table(tables["wer"]))
    if tables["joined"]:
        parts.append(_joined_table(tables["joined"]))
    return "\n\n".join(parts)


def _speed_table(rows: list[Row]) -> str:
    figures = ("inference_seconds", "inference_bytes", "training_seconds", "training_bytes")
    header = ["recording", "attention", "inference", "memory", "training step", "memory", "commit"]
    cells = []
    for row in sorted(rows, key=lambda row: (row["seconds"], row["attention"])):
        shown = [_figure(row.get(name), name) for name in figures]
        cells.append([f"{row['seconds']:,} s", row["attention"], *shown, row["commit"]])
    return markdown_table(header, cells)


def _figure(value: float | None, name: str) -> str:
    """A time or an amount of memory; nothing where it could not be measured."""
    if value is None:
        return "not possible here"
    return f"{value:,.2f} s" if name.endswith("seconds") else f"{value / 2**20:,.0f} MiB"


def _wer_table(rows: list[Row]) -> str:
    header = ["connected_digits", "test WER", "test CER", "training", "epochs", "peak memory", "parameters", "commit"]
    cells = [
        [
            row["network"],
            f"{row['test']['wer']:.1%}",
            f"{row['test']['cer']:.1%}",
            f"{row['training_seconds'] / 60:.1f} min",
            str(row["epochs"]),
            f"{row['peak_memory_mb']:,} MB",
            f"{row['parameters'] / 1e6:.2f} M",
            row["commit"],
        ]
        for row in rows
    ]
    return markdown_table(header, cells)


def _joined_table(rows: list[Row]) -> str:
    header = ["joined strings", "hours", "heard", "landmarks", "strings", "WER", "time", "commit"]
    cells = [
        [
            row["network"],
            f"{row['hours']:g}",
            row["heard"],
            str(row["landmarks"] or "none"),
            f"{row['strings']:,}",
            f"{row['wer']:.1%}",
            f"{row['seconds']:,.1f} s",
            row["commit"],
        ]
        for row in rows
    ]
    return markdown_table(header, cells)


if __name__ == "__main__":
    main()
