"""Encoders of sequences as configuration: every option reaches the network."""

from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from transformers import BertConfig, BertModel

from softformer import Cholesky, Newton, SoftEncoder, SoftOptions
from softformer.layers import SoftAttention
from softformer.layers.landmarks import ConvSegmentLandmarks, SegmentLandmarks
from softformer.layers.positions import LearnedPositions, SinusoidalPositions
from softformer.layers.softmax_attention import SoftmaxAttention
from softformer.training.encoders import AutoModelSpec, EncoderSpec, SoftEncoderSpec
from softformer.training.specs import rebuild


def parsed(*args: str) -> tuple[EncoderSpec, str]:
    """The spec that the command line makes, and the configuration that would be written."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(EncoderSpec, "encoder")
    given = ["--encoder=SoftEncoderSpec", "--encoder.dim=12", "--encoder.depth=2", "--encoder.num_heads=2"]
    config = parser.parse_args([*given, *(f"--encoder.{arg}" for arg in args)])
    return parser.instantiate(config).encoder, parser.dump(config)


def mixer(network: Any) -> Any:
    return network.blocks[0].mixer


def test_defaults_are_those_of_the_encoder() -> None:
    spec, written = parsed()
    assert spec == SoftEncoderSpec(12, 2, 2)
    assert "Unable to serialize" not in written
    network = spec.build()
    assert isinstance(network, SoftEncoder)
    assert isinstance(network.positions, SinusoidalPositions)
    assert isinstance(mixer(network), SoftAttention)
    assert isinstance(mixer(network).landmarks, SegmentLandmarks)
    assert (mixer(network).inverse, mixer(network).symmetric_norm, mixer(network).rotary) == (Cholesky(), True, False)


@pytest.mark.parametrize(
    ("option", "look", "expected"),
    [
        ("num_landmarks=5", lambda network: mixer(network).landmarks.num_landmarks, 5),
        ("attention=softmax", lambda network: type(mixer(network)), SoftmaxAttention),
        ("mlp_ratio=2", lambda network: network.blocks[0].mlp.fc1.out_features, 24),
        ("dropout=0.25", lambda network: network.drop.p, 0.25),
        ("drop_path=0.25", lambda network: network.blocks[1].drop1.rate, 0.25),
        ("positions=none", lambda network: type(network.positions), torch.nn.Identity),
        ("positions=learned", lambda network: type(network.positions), LearnedPositions),
        ("positions=rotary", lambda network: mixer(network).rotary, True),
        ("gradient_checkpointing=true", lambda network: network.gradient_checkpointing, True),
        ("soft.landmarks=conv", lambda network: type(mixer(network).landmarks), ConvSegmentLandmarks),
        ("soft.inverse=Newton", lambda network: mixer(network).inverse, Newton()),
        ("soft.symmetric_norm=false", lambda network: mixer(network).symmetric_norm, False),
        ("soft.value_kernel=3", lambda network: mixer(network).value_conv.weight.shape[-1], 3),
        ("soft.backend=reference", lambda network: mixer(network).backend, "reference"),
    ],
)
def test_options_reach_the_network(option: str, look: Any, expected: Any) -> None:
    spec, written = parsed(option)
    assert look(spec.build()) == expected
    again = rebuild(EncoderSpec, spec.to_dict())  # as a checkpoint does
    assert again == spec
    assert look(again.build()) == expected
    assert "Unable to serialize" not in written


def test_the_number_of_learned_positions() -> None:
    network = parsed("positions=learned", "max_length=17")[0].build()
    assert network.positions.weight.shape == (17, 12)  # type: ignore[union-attr]


def test_options_are_compared_by_value() -> None:
    assert SoftOptions() == SoftOptions(inverse=Cholesky())
    assert SoftOptions() != SoftOptions(inverse=Newton())
    assert len({SoftOptions(), SoftOptions(), SoftOptions("conv")}) == 2


@pytest.fixture
def bert(tmp_path: Path) -> str:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=31, hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=7,
        max_position_embeddings=17,
    )  # fmt: skip
    BertModel(config).save_pretrained(tmp_path / "bert")
    return str(tmp_path / "bert")


def test_any_encoder_of_transformers(bert: str) -> None:
    network: Any = AutoModelSpec(bert).build().eval()
    ids, mask, types = torch.randint(31, (2, 5)), torch.ones(2, 5).bool(), torch.tensor([[0, 0, 0, 1, 1]] * 2)
    expected = BertModel.from_pretrained(bert).eval()(ids, mask.long(), types).last_hidden_state
    torch.testing.assert_close(network(ids, mask, types), expected)
    assert network.dim == 12
    assert network.token_weight.shape == (31, 12)
    fresh: Any = AutoModelSpec(bert, pretrained=False).build()
    assert not torch.equal(fresh.token_weight, network.token_weight)


def test_an_encoder_of_transformers_trains(bert: str) -> None:
    from transformers import RobertaConfig, RobertaModel

    for pretrained in (True, False):
        network: Any = AutoModelSpec(bert, pretrained=pretrained).build()
        assert all(module.training for module in network.modules())
        network(torch.randint(31, (2, 17))).sum().backward()
        assert all(parameter.grad is not None for parameter in network.parameters() if parameter.requires_grad)
    with pytest.raises(ValueError, match=r"ids has 19 tokens, but the model has positions for 17: .*max_length 17"):
        network(torch.randint(31, (2, 19)))
    BertModel.from_pretrained(bert).half().save_pretrained(f"{bert}/half")
    assert AutoModelSpec(f"{bert}/half").build()(torch.randint(31, (2, 5))).dtype == torch.float32
    RobertaModel(
        RobertaConfig(
            vocab_size=31, hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=7,
            max_position_embeddings=17, pad_token_id=1,
        )
    ).save_pretrained(f"{bert}/roberta")  # fmt: skip
    roberta = AutoModelSpec(f"{bert}/roberta").build()
    assert roberta(torch.randint(2, 31, (2, 15))).shape == (2, 15, 12)
    with pytest.raises(ValueError, match="ids has 16 tokens, but the model has positions for 15"):
        roberta(torch.randint(2, 31, (2, 16)))


def test_a_checkpoint_does_not_ask_for_weights_again(bert: str) -> None:
    from softformer.training.checkpoints.content import rebuildable_hyperparameters
    from tasks.text import TextClassifier

    task = TextClassifier(AutoModelSpec(bert), num_classes=3)
    assert rebuildable_hyperparameters(type(task), task.hparams)["encoder"]["init_args"]["pretrained"] is False
    with pytest.raises(ValueError, match="vocab_size must be at most 31, the vocabulary of the network, got 32"):
        TextClassifier(AutoModelSpec(bert), num_classes=3, vocab_size=32)


def test_what_is_no_encoder(tmp_path: Path) -> None:
    from transformers import T5Config

    T5Config(d_model=12, num_layers=1, num_heads=3, d_kv=4, d_ff=7, vocab_size=31).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"must be an encoder, such as BERT, .* a t5"):
        AutoModelSpec(str(tmp_path), pretrained=False).build()
