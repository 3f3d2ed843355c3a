"""Without the libraries of the extra audio: the error of the audio tasks, and everything else works."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def _python(code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("library", ["soundfile", "torchaudio", "rapidfuzz"])
def test_the_audio_tasks_name_the_extra(library: str) -> None:
    done = _python(f"import sys; sys.modules['{library}'] = None; import tasks.audio")
    assert done.returncode == 1
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("ImportError: the audio tasks need the extra: pip install 'softformer[audio]' (")
    assert library in message


def test_the_command_line_works_without_them() -> None:
    code = (
        "import sys\n"
        "sys.modules['soundfile'] = None\n"
        "from tasks.cli import main\n"
        "import tasks.image, tasks.text\n"
        "print(tasks.image.ImageClassifier.__name__)\n"
        "main(['fit', '--model', 'AudioClassifier', '--data', 'AudioDataModule', '--data.path', 'csv'])\n"
    )
    done = _python(code)
    assert done.stdout == "ImageClassifier\n"
    assert done.returncode == 2
    assert "there is no class 'AudioClassifier'." in done.stderr
    assert "Note that the audio tasks need the extra: pip install 'softformer[audio]'" in done.stderr
