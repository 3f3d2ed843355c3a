"""The page on export does what it says: its ONNX file gives our numbers for other batches and lengths."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

PAGE = (Path(__file__).parents[1] / "docs" / "export.md").read_text()
(SNIPPET,) = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)

pytest.importorskip("onnxscript", reason="needs the extra export")
runtime = pytest.importorskip("onnxruntime", reason="needs the extra export")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("export")
    names: dict[str, Any] = {"__name__": "page"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(compile(SNIPPET, "docs/export.md", "exec"), names)
    return names | {"session": runtime.InferenceSession(str(folder / "encoder.onnx"))}


@pytest.mark.parametrize(("batch", "length"), [(2, 50), (1, 7), (3, 131)])
def test_any_batch_and_length(page: dict[str, Any], batch: int, length: int) -> None:
    tokens, mask = torch.randn(batch, length, 64), torch.rand(batch, length) < 0.8
    inputs = page["session"].get_inputs()
    given = {entry.name: value.numpy() for entry, value in zip(inputs, (tokens, mask), strict=True)}
    (found,) = page["session"].run(None, given)
    with torch.no_grad():
        expected = page["encoder"](tokens, mask)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-3, atol=1e-4)


def test_onnx_has_no_cholesky() -> None:
    from softformer import SoftEncoder

    with pytest.raises(Exception, match="inverse must be a Newton for ONNX") as caught:
        torch.onnx.export(SoftEncoder(12, 1, 2).eval(), (torch.randn(2, 5, 12),), dynamo=True)
    assert caught.type.__name__ in ("TorchExportError", "ValueError")
