"""Runs transformers' own common model tests against the Softformer models.

    pip install parameterized
    pip download --no-deps --no-binary transformers transformers==5.23.0 && tar xf transformers-5.23.0.tar.gz
    python -m benchmarks.transformers_model_tests transformers-5.23.0 [pytest options]

The path is a source distribution of the installed version, or a checkout of its tag. The tests are run as they are,
for three models under two sets of options. A source distribution lacks the tests of exports, which are then left out,
and those of generation, which are not for encoders. Tests of pipelines, which download tiny models, are not run. The
exit status is pytest's.
"""

import argparse
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

import pytest
import transformers
from transformers.models.auto import modeling_auto

from softformer.adapters.huggingface.models import (
    SoftformerConfig,
    SoftformerForMaskedLM,
    SoftformerForSequenceClassification,
    SoftformerModel,
)

_ROOT = Path(__file__).resolve().parents[1]
# What the common tests import and a source distribution lacks, and what stands in for it.
_STAND_INS = {
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "utils/test_configuration_utils.py": "config_common_kwargs = {}\n",
}
_TESTS = (
    "from benchmarks.transformers_model_tests import model_test_classes\n\nglobals().update(model_test_classes())\n"
)
_MARKERS = ("accelerate_tests", "flash_attn_test", "generate", "torch_compile_test", "torch_export_test")
_FLAGS = "the encoder has a flag of its own that stays off, while its layers, which are checkpointed, have theirs on"
# Every module with parameters is in one of the two.
_OPTIONS: dict[str, dict[str, Any]] = {
    "SoftformerModelTest": {},
    "SoftformerOtherOptionsModelTest": {
        "landmarks": "conv",
        "inverse": "newton",
        "newton_gradient": "unrolled",
        "positions": "learned",
        "max_position_embeddings": 64,
        "value_kernel": 3,
        "pooling": "attention",
        "initializer_range": 0.02,
    },
}


class SoftformerTester:
    """Options and inputs, as transformers' tests ask for them."""

    is_training = True
    batch_size, seq_length, vocab_size = 5, 7, 99
    hidden_size, num_hidden_layers, num_attention_heads = 32, 2, 4

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options

    def get_config(self) -> SoftformerConfig:
        """A small network."""
        return SoftformerConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            num_landmarks=3,
            mlp_ratio=2.0,
            hidden_dropout_prob=0.1,
            **self.options,
        )

    def prepare_config_and_inputs_for_common(self) -> tuple[SoftformerConfig, dict[str, Any]]:
        """The network's options, ids and their mask."""
        from tests.test_modeling_common import ids_tensor, random_attention_mask

        shape = [self.batch_size, self.seq_length]
        inputs = {"input_ids": ids_tensor(shape, self.vocab_size), "attention_mask": random_attention_mask(shape)}
        return self.get_config(), inputs


def model_test_classes() -> dict[str, type]:
    """Test classes by their names, made of transformers' `ModelTesterMixin`; to be imported by pytest."""
    from tests.test_configuration_common import ConfigTester
    from tests.test_modeling_common import ModelTesterMixin

    # The tests know by these tables what a model is for: which labels it takes, and which tests concern it.
    modeling_auto.MODEL_MAPPING_NAMES["softformer"] = "SoftformerModel"
    modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES["softformer"] = "SoftformerForMaskedLM"
    modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES["softformer"] = "SoftformerForSequenceClassification"

    class Common(ModelTesterMixin):
        all_model_classes = (SoftformerModel, SoftformerForMaskedLM, SoftformerForSequenceClassification)
        has_attentions = False  # no matrix of all pairs of tokens
        test_can_init_all_missing_weights_before_2023 = True  # else left out where a file names no year
        options: dict[str, Any]

        def setUp(self) -> None:
            self.model_tester = SoftformerTester(self.options)
            self.config_tester = ConfigTester(self, SoftformerConfig, hidden_size=36)

        def test_config(self) -> None:
            self.config_tester.run_common_tests()

        def _prepare_config_and_inputs_for_retain_grad_hidden_states_attentions(self) -> Any:
            # With a mask, hidden states are copies, put back at the places of their tokens: nothing depends on them.
            config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
            return config, {"input_ids": inputs["input_ids"]}

        @unittest.skip(_FLAGS)
        def test_gradient_checkpointing_enable_disable(self) -> None: ...

        @unittest.skip(_FLAGS)
        def test_peft_gradient_checkpointing_enable_disable(self) -> None: ...

    return {
        name: type(name, (Common, unittest.TestCase), {"options": options, "__test__": True})
        for name, options in _OPTIONS.items()
    }


def lay_out(source: Path, folder: Path) -> list[str]:
    """Transformers' tests and the file that pytest collects in a folder; returns which stand-ins were needed."""
    tests = folder / "tests"
    tests.mkdir()
    for entry in source.iterdir():
        (tests / entry.name).symlink_to(entry.resolve())
    missing = [name for name in _STAND_INS if not (tests / name).exists()]
    for name in missing:
        path = tests / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(_STAND_INS[name])
    for package in (tests, *(path for path in tests.iterdir() if path.is_dir() and not path.is_symlink())):
        if not (package / "__init__.py").exists():
            (package / "__init__.py").touch()
    (folder / "test_softformer.py").write_text(_TESTS)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n" + "".join(f"    {marker}\n" for marker in _MARKERS))
    return missing


def main(arguments: list[str]) -> int:
    """Run the tests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="source distribution or checkout of transformers")
    options, rest = parser.parse_known_args(arguments)
    source = options.path / "tests"
    if not (source / "test_modeling_common.py").is_file():
        parser.error(f"path: expected a folder with tests/test_modeling_common.py, got {options.path}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        missing = lay_out(source, folder)
        # The folder first, because this repository has tests too.
        sys.path[:0] = [str(folder), str(_ROOT)]
        print(
            f"transformers {transformers.__version__}, tests of {options.path}; without {', '.join(missing) or 'none'}"
        )
        fixed = ["-c", str(folder / "pytest.ini"), "--rootdir", str(folder), "-p", "no:cacheprovider", "-ra"]
        return int(pytest.main([str(folder / "test_softformer.py"), *fixed, *rest]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
