"""The house keeps its direction: what each room may import, what `import softformer` costs, and its lazy names."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import softformer

ROOT = Path(__file__).parents[1]

# Lowest first; a room imports from itself and from those before it.
ROOMS = [
    "softformer.ops",
    "softformer.layers",
    "softformer.models",
    "softformer.adapters",
    "softformer.training",
    "tasks",
]
DOMAINS = ("image", "text", "audio")
# What a room may import besides torch and the standard library.
THIRD_PARTY = {
    "softformer.ops": set(),
    "softformer.layers": set(),
    "softformer.models": {"timm", "safetensors", "torchaudio"},
    "softformer.adapters": {"timm", "transformers", "tokenizers"},
}


def imports(path: Path) -> Iterator[str]:
    """Absolute names of the modules that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module)


def room_of(name: str) -> int | None:
    return next((i for i, room in enumerate(ROOMS) if name == room or name.startswith(room + ".")), None)


FILES = [path for folder in ("softformer", "tasks") for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_import_downwards_only(path: Path) -> None:
    own = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    room = room_of(own)
    if room is None:
        assert own in ("softformer.__init__", "softformer.__main__")
        return
    standard = sys.stdlib_module_names
    for name in imports(path):
        other = room_of(name)
        assert other is None or other <= room, f"{path} imports {name}"
        top = name.partition(".")[0]
        allowed = THIRD_PARTY.get(ROOMS[room])
        if own.startswith("softformer.ops.attention.triton."):
            allowed = {"triton"}
        if allowed is not None and other is None:
            assert top in standard or top == "torch" or top in allowed, f"{path} imports {name}"


def test_domains_do_not_import_each_other() -> None:
    for domain in DOMAINS:
        others = tuple(f"tasks.{other}" for other in DOMAINS if other != domain)
        for path in (ROOT / "tasks" / domain).rglob("*.py"):
            assert not any(name.startswith(others) for name in imports(path)), path


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_graph(root: Path, files: list[Path]) -> dict[str, set[str]]:
    """The modules that each module names in its imports: those for types alone and those inside functions count.

    A name that a package exports leads to its ``__init__``. That Python runs the packages around a module first does
    not count, because nothing of theirs is used.
    """
    paths = {module_name(path, root): path for path in files}
    graph: dict[str, set[str]] = {}
    for module, path in paths.items():
        named = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                named |= (inner & set(paths)) | (set() if inner <= set(paths) else {str(node.module)})
        graph[module] = named & set(paths) - {module}
    return graph


def test_no_module_needs_itself() -> None:
    graph = import_graph(ROOT, FILES)
    assert "softformer.training.specs" in graph["softformer.training.optimizer"]
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize(
    "line",
    [
        "import room.first",
        "from room import first",
        "from room.first import Name",
        "if TYPE_CHECKING:\n    from room.first import Name",
        "def function():\n    from room.first import Name",
        "from room import Name",
    ],
)
def test_every_kind_of_import_counts(tmp_path: Path, line: str) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "__init__.py").write_text("from room.first import Name")
    (tmp_path / "room" / "first.py").write_text("from room.second import Other")
    (tmp_path / "room" / "second.py").write_text("")
    files = sorted(tmp_path.rglob("*.py"))
    TopologicalSorter(import_graph(tmp_path, files)).prepare()
    (tmp_path / "room" / "second.py").write_text(line)
    with pytest.raises(CycleError):
        TopologicalSorter(import_graph(tmp_path, files)).prepare()


def test_shared_rooms_do_not_know_the_domains() -> None:
    """Only the command line names the domains, whose classes it offers."""
    domains = tuple(f"tasks.{domain}" for domain in DOMAINS)
    for path in (ROOT / "tasks").rglob("*.py"):
        own = path.relative_to(ROOT / "tasks").parts[0]
        if own not in (*DOMAINS, "cli.py", "command"):
            assert not any(name.startswith(domains) for name in imports(path)), path


def test_tasks_and_data_modules_find_each_other_in_one_place() -> None:
    own = [path for folder in (*DOMAINS, "classification", "data") for path in (ROOT / "tasks" / folder).rglob("*.py")]
    for path in own:
        assert not re.search(r"\bdatamodule\b|\blightning_module\b", path.read_text()), path
    assert (ROOT / "tasks" / "base.py").read_text().count("datamodule") == 1


def run_python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_loads_no_framework_and_registers_the_models() -> None:
    code = (
        "import json, sys, softformer, timm;"
        "heavy = [n for n in ('lightning', 'transformers', 'datasets', 'torchaudio') if n in sys.modules];"
        "print(json.dumps([heavy, timm.list_models('soft_*')]))"
    )
    heavy, models = json.loads(run_python(code))
    assert heavy == []
    sizes = ("tiny", "small", "medium", "large", "huge")
    assert sorted(models) == sorted([f"soft_{size}" for size in sizes] + [f"soft_norm_{size}" for size in sizes])


def test_import_adds_little_time() -> None:
    """At most 0.3 s over torch and timm; the best of three, as other programs may run."""
    code = (
        "import time, torch, timm; start = time.perf_counter(); import softformer; print(time.perf_counter() - start)"
    )
    assert min(float(run_python(code)) for _ in range(3)) <= 0.3


def test_the_attention_needs_torch_alone() -> None:
    code = (
        "import sys\n"
        "for name in ('timm', 'lightning', 'transformers', 'datasets', 'torchvision', 'safetensors', 'numpy'):\n"
        "    sys.modules[name] = None\n"
        "import torch, softformer\n"
        "layer = softformer.SoftAttention(8, 2)\n"
        "assert layer(torch.ones(1, 3, 8)).shape == (1, 3, 8)\n"
        "sizes = dict(embed_dims=(8, 8), depths=(1, 1), num_heads=(2, 2))\n"
        "model = softformer.SoftVisionTransformer(32, num_classes=3, **sizes)\n"
        "print(tuple(model(torch.ones(1, 3, 32, 32)).shape))\n"
    )
    assert run_python(code) == "(1, 3)\n"


def test_lazy_names_resolve_and_agree_with_the_type_checker() -> None:
    tree = ast.parse((ROOT / "softformer" / "__init__.py").read_text())
    guarded = next(
        node
        for node in tree.body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    )
    declared = {
        alias.name: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert declared == softformer._LAZY
    for name in softformer._LAZY:
        assert getattr(softformer, name).__name__ == name
    assert set(softformer._LAZY) <= set(dir(softformer))
    assert set(softformer.__all__) <= set(dir(softformer))


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'softformer' has no attribute 'SoftAtention'"):
        _ = softformer.SoftAtention  # type: ignore[attr-defined]
