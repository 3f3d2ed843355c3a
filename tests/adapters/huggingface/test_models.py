"""The models under transformers' conventions: Auto classes, folders, losses, checkpointing, Trainer and pipelines."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    pipeline,
)
from transformers.utils import logging as transformers_logging

import softformer
from softformer.adapters.huggingface.config import options_of_encoder
from softformer.adapters.huggingface.models import (
    SoftformerConfig,
    SoftformerForMaskedLM,
    SoftformerForSequenceClassification,
    SoftformerLayer,
    SoftformerModel,
    register,
)
from softformer.layers.attention import SoftAttention
from softformer.layers.block import PreNormBlock
from softformer.layers.landmarks import ConvSegmentLandmarks
from softformer.layers.positions import LearnedPositions
from softformer.layers.softmax_attention import SoftmaxAttention
from softformer.models.sequence import SoftEncoder, SoftOptions
from softformer.models.text import MaskedLanguageNetwork, TextClassifierNetwork, TextEncoder
from softformer.ops.inverse import Cholesky, Newton
from tasks.text.tokens.tokenizers import BytesSpec
from tests.support.outputs import assert_same_outputs

BATCH, LENGTH, VOCAB, CLASSES, DEPTH, LANDMARKS = 2, 13, 37, 7, 3, 5
SMALL: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 22,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 2,
    "num_landmarks": LANDMARKS,
    "mlp_ratio": 1.5,
    "num_labels": CLASSES,
}
# Every module with parameters, and no default.
OTHER: dict[str, Any] = {
    "positions": "learned",
    "max_position_embeddings": 17,
    "landmarks": "conv",
    "inverse": "newton",
    "inverse_ridge": 0.03,
    "newton_iterations": 11,
    "newton_start": "halving",
    "newton_gradient": "unrolled",
    "symmetric_norm": False,
    "value_kernel": 3,
    "backend": "eager",
    "pooling": "attention",
}
CLASSES_OF = {
    SoftformerModel: AutoModel,
    SoftformerForMaskedLM: AutoModelForMaskedLM,
    SoftformerForSequenceClassification: AutoModelForSequenceClassification,
}
MODELS = list(CLASSES_OF)
IDS = torch.randint(VOCAB, (BATCH, LENGTH), generator=torch.Generator().manual_seed(1))
MASK = torch.ones(BATCH, LENGTH, dtype=torch.bool)
MASK[0, 9:] = False
MASK[1, :2] = False


def _config(**options: Any) -> SoftformerConfig:
    return SoftformerConfig(**{**SMALL, **options})


def _model(kind: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    return kind(_config(**options)).eval()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What transformers logs as a warning."""
    transformers_logging.enable_propagation()
    caplog.set_level(logging.WARNING)
    yield caplog
    transformers_logging.disable_propagation()


def test_names_of_the_package() -> None:
    assert softformer.SoftformerModel is SoftformerModel
    assert softformer.SoftformerConfig is SoftformerConfig


def test_auto_classes_know_the_models() -> None:
    register()
    register()
    config = AutoConfig.for_model("softformer", **SMALL)
    assert type(config) is SoftformerConfig
    for kind, auto in CLASSES_OF.items():
        assert type(auto.from_config(config)) is kind
    assert AutoModel.from_config(_config(), dtype=torch.bfloat16).dtype == torch.bfloat16


def test_configuration_to_a_folder_and_back(tmp_path: Path) -> None:
    config = _config(**OTHER, id2label={number: f"class {number}" for number in range(CLASSES)})
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert type(again) is SoftformerConfig
    assert again.to_diff_dict() == config.to_diff_dict() | {"transformers_version": again.transformers_version}
    assert {name: getattr(again, name) for name in OTHER} == OTHER
    assert again.id2label[6] == "class 6"
    assert AutoConfig.from_pretrained(tmp_path, pooling="cls").pooling == "cls"


def test_options_reach_the_network() -> None:
    model = _model(
        SoftformerForSequenceClassification,
        **OTHER,
        hidden_dropout_prob=0.1,
        drop_path_rate=0.2,
        classifier_dropout=0.3,
    )
    encoder = model.softformer.backbone.encoder
    mixer = encoder.blocks[0].mixer
    assert isinstance(encoder.positions, LearnedPositions)
    assert encoder.positions.weight.shape == (17, 22)
    assert isinstance(mixer.landmarks, ConvSegmentLandmarks)
    assert mixer.landmarks.num_landmarks == LANDMARKS
    assert mixer.inverse == Newton(11, ridge=0.03, start="halving", gradient="unrolled")
    assert (mixer.symmetric_norm, mixer.backend, mixer.value_conv.weight.shape) == (False, "eager", (2, 1, 3))
    assert (mixer.num_heads, encoder.blocks[0].mlp.fc1.out_features, len(encoder.blocks)) == (2, 33, DEPTH)
    assert (encoder.drop.p, encoder.blocks[-1].drop1.rate, model.dropout.p) == (0.1, 0.2, 0.3)
    assert model.pooling.kind == "attention"
    default = _model(SoftformerModel).backbone.encoder.blocks[0].mixer
    assert isinstance(default, SoftAttention)
    assert default.inverse == Cholesky(0.01)
    softmax = _model(SoftformerModel, attention="softmax", num_landmarks=64).backbone.encoder.blocks[0].mixer
    assert isinstance(softmax, SoftmaxAttention)
    assert _model(SoftformerModel, positions="rotary", hidden_size=44).backbone.encoder.blocks[0].mixer.rotary


CHOICES = (
    "attention",
    "positions",
    "landmarks",
    "inverse",
    "newton_start",
    "newton_gradient",
    "backend",
    "pooling",
)


@pytest.mark.parametrize("name", CHOICES)
def test_unknown_choices(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be one of '.*', got 'linear'"):
        _config(**{name: "linear"})


def test_options_that_do_not_go_together() -> None:
    with pytest.raises(ValueError, match="num_attention_heads must be a divisor of hidden_size=22, got 3"):
        _config(num_attention_heads=3)
    message = "newton_iterations, newton_start must have the defaults .* got 7, 'halving'; set inverse='newton'"
    with pytest.raises(ValueError, match=message):
        _config(newton_iterations=7, newton_start="halving")
    config = _config()
    config.pooling = "max"
    with pytest.raises(ValueError, match="pooling must be one of 'mean', 'cls', 'attention', got 'max'"):
        SoftformerModel(config)


def test_options_from_the_description_of_an_encoder() -> None:
    config = _config(**OTHER, hidden_dropout_prob=0.1, drop_path_rate=0.2)
    arguments = config.encoder_options()
    soft = arguments["soft"]
    newton = {"ridge": 0.03, "iterations": 11, "start": "halving", "gradient": "unrolled"}
    described = {**soft.init_args, "inverse": {"class_path": "softformer.ops.inverse.Newton", "init_args": newton}}
    options = options_of_encoder({**arguments, "soft": described, "gradient_checkpointing": True})
    assert SoftformerConfig(**options).encoder_options() == arguments
    cholesky = {"soft": {"inverse": {"class_path": "Cholesky", "init_args": {"ridge": 0.5}}}}
    assert SoftformerConfig(**options_of_encoder(cholesky)).encoder_options()["soft"] == SoftOptions(
        inverse=Cholesky(0.5)
    )
    assert options_of_encoder({}) == {}
    with pytest.raises(ValueError, match=r"encoder must have only the options dim, .*, max_length, got width"):
        options_of_encoder({"width": 8})
    with pytest.raises(ValueError, match=r"encoder must have only the options landmarks, .*, backend, got ridge"):
        options_of_encoder({"soft": {"ridge": 0.1}})
    for inverse in ({"class_path": "LU"}, "LU"):
        with pytest.raises(ValueError, match=r"inverse must have Cholesky or Newton as its class_path, .* got 'LU'"):
            options_of_encoder({"soft": {"inverse": inverse}})


def _networks(options: dict[str, Any]) -> tuple[TextClassifierNetwork, MaskedLanguageNetwork]:
    config = _config(**options)
    backbone = TextEncoder(VOCAB, SoftEncoder(**config.encoder_options()))
    return TextClassifierNetwork(backbone, CLASSES, pooling=config.pooling).eval(), MaskedLanguageNetwork(
        backbone
    ).eval()


@pytest.mark.parametrize("options", [{}, OTHER], ids=["default", "other"])
@pytest.mark.parametrize("masked", [True, False])
def test_outputs_are_those_of_the_text_networks(options: dict[str, Any], masked: bool) -> None:
    """Weights go over by their names, whatever the type of the mask."""
    classifier, language = _networks(options)
    mask = MASK if masked else None
    base = _model(SoftformerModel, **options)
    base.backbone.load_state_dict(classifier.backbone.state_dict())
    head = _model(SoftformerForSequenceClassification, **options)
    head.softformer.load_state_dict(base.state_dict())
    head.pooling.load_state_dict(classifier.pooling.state_dict())
    head.classifier.load_state_dict(classifier.head.state_dict())
    names = _model(SoftformerForMaskedLM, **options)
    names.softformer.load_state_dict(base.state_dict())
    names.lm_head.load_state_dict(language.head.state_dict())
    for attention_mask in (mask, None if mask is None else mask.long()):
        torch.testing.assert_close(base(IDS, attention_mask).last_hidden_state, classifier.backbone(IDS, mask))
        torch.testing.assert_close(head(IDS, attention_mask).logits, classifier(IDS, mask))
        torch.testing.assert_close(names(IDS, attention_mask).logits, language(IDS, mask))


def test_padding_changes_nothing() -> None:
    model = _model(SoftformerForSequenceClassification, pooling="cls")
    short = model(IDS[:, :11]).logits
    padded = torch.cat((IDS[:, :11], IDS[:, :2]), 1)
    mask = torch.arange(LENGTH).expand(BATCH, -1) < 11
    torch.testing.assert_close(model(padded, mask.int()).logits, short, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("options", [{}, OTHER], ids=["default", "other"])
def test_to_a_folder_and_back(
    tmp_path: Path, said: pytest.LogCaptureFixture, kind: Any, options: dict[str, Any]
) -> None:
    model = _model(kind, **options)
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert "decoder.weight" not in stored
    assert set(stored) == {name for name, _ in model.named_parameters()}
    again = CLASSES_OF[kind].from_pretrained(tmp_path)
    assert type(again) is kind
    assert not again.training
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert_same_outputs(again(IDS, MASK)[0], model(IDS, MASK)[0])
    assert said.records == []


def test_output_layer_is_tied() -> None:
    model = _model(SoftformerForMaskedLM)
    embedding = model.get_input_embeddings()
    assert model.decoder.weight is embedding.weight is model.softformer.backbone.token_weight
    assert "decoder.weight" not in dict(model.named_parameters())


def test_untied(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    model = _model(SoftformerForMaskedLM, tie_word_embeddings=False)
    model.save_pretrained(tmp_path)
    again = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert not torch.equal(again.decoder.weight, again.get_input_embeddings().weight)
    assert_same_outputs(again(IDS).logits, model(IDS).logits)
    assert said.records == []


HEADS = {
    SoftformerForMaskedLM: {"lm_head.dense.weight", "lm_head.dense.bias"}
    | {"lm_head.norm.weight", "lm_head.norm.bias", "lm_head.bias"},
    SoftformerForSequenceClassification: {"classifier.weight", "classifier.bias"},
}


@pytest.mark.parametrize("source", MODELS)
@pytest.mark.parametrize("target", MODELS)
def test_folders_load_into_other_heads(tmp_path: Path, source: Any, target: Any) -> None:
    model = _model(source)
    model.save_pretrained(tmp_path)
    torch.manual_seed(7)
    loaded, report = CLASSES_OF[target].from_pretrained(tmp_path, output_loading_info=True)
    states, expected = (network.base_model(IDS, MASK).last_hidden_state for network in (loaded, model))
    assert_same_outputs(states, expected)
    same = source is target
    assert set(report["missing_keys"]) == (set() if same else HEADS.get(target, set()))
    assert set(report["unexpected_keys"]) == (set() if same else HEADS.get(source, set()))


@pytest.mark.parametrize("options", [{}, OTHER], ids=["default", "other"])
def test_weights_start_as_in_the_task(options: dict[str, Any]) -> None:
    model = _model(SoftformerForMaskedLM, **{**options, "vocab_size": 2003})
    linear = model.softformer.backbone.encoder.blocks[0].mlp.fc1
    assert model.get_input_embeddings().weight.std().item() == pytest.approx(22**-0.5, rel=0.02)
    assert linear.weight.abs().max().item() == pytest.approx(22**-0.5, rel=0.05)
    assert linear.bias.abs().max() > 0
    assert torch.equal(model.lm_head.bias, torch.zeros(2003))
    small = _model(SoftformerForMaskedLM, **options, initializer_range=0.002)
    for module in small.modules():
        if isinstance(module, nn.Linear) and module is not small.decoder:
            assert module.weight.std().item() == pytest.approx(0.002, rel=0.2)
            assert torch.equal(module.bias, torch.zeros_like(module.bias))


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
def test_hidden_states(kind: Any, mask: Tensor | None) -> None:
    model = _model(kind)
    network = model.base_model.backbone
    outputs = model(IDS, mask, output_hidden_states=True)
    states = outputs.hidden_states
    assert isinstance(states, tuple)
    assert len(states) == DEPTH + 1
    assert all(state.shape == (BATCH, LENGTH, 22) for state in states)
    torch.testing.assert_close(states[-1], network(IDS, mask))
    if mask is None:
        torch.testing.assert_close(states[0], network.encoder.positions(network.embed(IDS)))
        torch.testing.assert_close(states[-1], network.encoder.norm(network.encoder.blocks[-1](states[-2])))
    else:
        assert all(torch.equal(state[~mask], torch.zeros_like(state[~mask])) for state in states)
    assert model(IDS, mask).hidden_states is None
    model.config.output_hidden_states = True
    assert len(model(IDS, mask).hidden_states) == DEPTH + 1
    assert model(IDS, mask, output_hidden_states=False).hidden_states is None
    model.config.output_hidden_states = None
    assert model(IDS, mask).hidden_states is None
    with pytest.raises(ValueError, match=r"output_hidden_states must be True or False, got \[0\]"):
        model(IDS, mask, output_hidden_states=[0])


@pytest.mark.parametrize("kind", MODELS)
def test_tuples(kind: Any) -> None:
    model = _model(kind)
    named = model(IDS, MASK, output_hidden_states=True)
    plain = model(IDS, MASK, output_hidden_states=True, return_dict=False)
    assert type(plain) is tuple
    assert len(plain) == 2
    assert torch.equal(plain[0], named[0])
    assert torch.equal(plain[1][0], named.hidden_states[0])
    model.config.return_dict = False
    assert type(model(IDS, MASK)) is tuple


@pytest.mark.parametrize("kind", MODELS)
def test_embeddings_in_place_of_ids(kind: Any) -> None:
    model = _model(kind)
    embedded = model.get_input_embeddings()(IDS)
    torch.testing.assert_close(model(attention_mask=MASK, inputs_embeds=embedded)[0], model(IDS, MASK)[0])
    with pytest.raises(ValueError, match="one of input_ids and inputs_embeds must be given, got neither"):
        model(attention_mask=MASK)
    with pytest.raises(ValueError, match="one of input_ids and inputs_embeds must be given, got both"):
        model(IDS, MASK, inputs_embeds=embedded)


@pytest.mark.parametrize("kind", MODELS)
def test_attentions_are_refused(kind: Any) -> None:
    model = _model(kind)
    with pytest.raises(ValueError, match="output_attentions must be False, got True: no matrix of all pairs"):
        model(IDS, output_attentions=True)
    model.config.output_attentions = True
    with pytest.raises(ValueError, match=r"output_attentions must .* softformer\.attention_factors"):
        model(IDS)
    assert model(IDS, output_attentions=False)[0].shape[0] == BATCH


@pytest.mark.parametrize("kind", MODELS)
def test_inputs_that_do_not_fit(kind: Any) -> None:
    model = _model(kind, **OTHER)
    with pytest.raises(ValueError, match="x must have at most 17 tokens, one for each learned position, got 19"):
        model(torch.zeros(BATCH, 19, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"attention_mask must have the shape .* got \(2, 1, 1, 13\)"):
        model(IDS, MASK[:, None, None])
    with pytest.raises(TypeError, match="attention_maks"):
        model(IDS, attention_maks=MASK)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("kept", [1, True, 1.0])
def test_masks_of_zeros_and_ones(kind: Any, kept: Any) -> None:
    mask = MASK * torch.tensor(kept)
    assert mask.dtype == torch.tensor(kept).dtype
    assert torch.equal(_model(kind)(IDS, mask)[0], _model(kind)(IDS, MASK)[0])


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("removed", [-10_000, -1e4, torch.finfo(torch.float32).min, -torch.inf, torch.nan])
def test_masks_that_are_added_to_scores_are_refused(kind: Any, removed: Any) -> None:
    mask = torch.zeros(MASK.shape, dtype=torch.tensor(removed).dtype).masked_fill(~MASK, removed)
    with pytest.raises(ValueError, match=r"attention_mask must be 1 or True .*, got (-|nan).*; give the"):
        _model(kind)(IDS, mask)
    with pytest.raises(ValueError, match=r"attention_mask must be 1 or True .*, got 2; give the"):
        _model(kind)(IDS, 2 * MASK.long())


def test_token_types_change_nothing() -> None:
    model = _model(SoftformerForSequenceClassification)
    types = (torch.arange(LENGTH) > 6).long().expand(BATCH, -1)
    assert torch.equal(model(IDS, MASK, token_type_ids=types).logits, model(IDS, MASK).logits)


@pytest.mark.parametrize("tied", [True, False])
def test_resized_vocabulary(tmp_path: Path, tied: bool) -> None:
    model = _model(SoftformerForMaskedLM, tie_word_embeddings=tied)
    nn.init.normal_(model.lm_head.bias)
    before = model(IDS, MASK).logits
    embedding = model.resize_token_embeddings(41)
    assert embedding is model.get_input_embeddings()
    assert (embedding.num_embeddings, model.config.vocab_size) == (41, 41)
    assert (model.decoder.weight is embedding.weight) == tied
    assert torch.equal(model.lm_head.bias[VOCAB:], torch.zeros(4))
    after = model(IDS, MASK).logits
    assert after.shape == (BATCH, LENGTH, 41)
    torch.testing.assert_close(after[..., :VOCAB], before)
    model.save_pretrained(tmp_path)
    again = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert_same_outputs(again(IDS, MASK).logits, after)
    model.resize_token_embeddings(VOCAB)
    torch.testing.assert_close(model(IDS, MASK).logits, before)
    loss = model(IDS, MASK, labels=IDS).loss
    loss.backward()
    assert model.lm_head.bias.grad.shape == (VOCAB,)
    classifier = _model(SoftformerForSequenceClassification)
    classifier.resize_token_embeddings(43)
    assert classifier(IDS + 6).logits.shape == (BATCH, CLASSES)


def test_loss_of_masked_tokens() -> None:
    model = _model(SoftformerForMaskedLM)
    labels = IDS.masked_fill(torch.arange(LENGTH) % 3 > 0, -100)
    outputs = model(IDS, MASK, labels=labels)
    expected = F.cross_entropy(outputs.logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    torch.testing.assert_close(outputs.loss, expected)
    count = int((labels != -100).sum())
    shared = model(IDS, MASK, labels=labels, num_items_in_batch=3 * count).loss
    torch.testing.assert_close(shared, expected / 3)
    assert model(IDS, MASK).loss is None


LOSSES: dict[str, tuple[int, Tensor, Any]] = {
    "single_label_classification": (CLASSES, torch.tensor([6, 3]), F.cross_entropy),
    "multi_label_classification": (
        CLASSES,
        (torch.arange(2 * CLASSES).reshape(2, CLASSES) % 3 == 0).float(),
        F.binary_cross_entropy_with_logits,
    ),
    "regression": (1, torch.tensor([0.5, -1.5]), lambda logits, labels: F.mse_loss(logits[:, 0], labels)),
}


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("problem", LOSSES)
def test_losses_of_classification(problem: str, told: bool) -> None:
    """As transformers: by config.problem_type, or by the labels where it is None."""
    count, labels, loss = LOSSES[problem]
    options = {"num_labels": count, **({"problem_type": problem} if told else {})}
    model = _model(SoftformerForSequenceClassification, **options)
    outputs = model(IDS, MASK, labels=labels)
    assert outputs.logits.shape == (BATCH, count)
    torch.testing.assert_close(outputs.loss, loss(outputs.logits, labels))
    assert model.config.problem_type == problem


@pytest.mark.parametrize("kwargs", [None, {"use_reentrant": True}], ids=["default", "reentrant"])
def test_gradient_checkpointing(kwargs: dict[str, Any] | None) -> None:
    """Same gradients; each layer computed twice and not more, or every second one; and off again."""
    model = _model(SoftformerForMaskedLM).train()
    labels = IDS.clone()

    def gradients() -> tuple[dict[str, Tensor], int]:
        model.zero_grad()
        with patch.object(SoftAttention, "forward", autospec=True, side_effect=SoftAttention.forward) as mixed:
            model(IDS, MASK, labels=labels).loss.backward()
        return {name: value.grad.clone() for name, value in model.named_parameters()}, mixed.call_count

    plain, calls = gradients()
    assert calls == DEPTH
    model.activation_checkpointing_enable(kwargs)
    assert model.is_activation_checkpointing
    assert [layer.gradient_checkpointing for layer in model.base_model.backbone.encoder.blocks] == [True] * DEPTH
    again, calls = gradients()
    assert calls == 2 * DEPTH
    for name, value in plain.items():
        torch.testing.assert_close(again[name], value, msg=name)
    model.activation_checkpointing_enable(kwargs, every_n_layers=2)
    assert gradients()[1] == DEPTH + 2
    model.activation_checkpointing_disable()
    assert not model.is_activation_checkpointing
    assert gradients()[1] == DEPTH


def test_layers_are_those_of_the_encoder() -> None:
    layers = _model(SoftformerModel).backbone.encoder.blocks
    assert all(type(layer) is SoftformerLayer and isinstance(layer, PreNormBlock) for layer in layers)


def _tokenizer() -> Any:
    return BytesSpec().build([])


def test_trainer(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate")
    from transformers import Trainer, TrainingArguments

    model = _model(SoftformerForSequenceClassification)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows = [{"input_ids": IDS[i % 2], "attention_mask": MASK[i % 2].long(), "labels": i % 2} for i in range(11)]
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=3,
        per_device_train_batch_size=5,
        learning_rate=1e-3,
        activation_checkpointing=True,
        save_steps=3,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows[:3])
    assert trainer.train().training_loss > 0
    assert trainer.evaluate()["eval_loss"] > 0
    assert all(not torch.equal(value, before[name]) for name, value in model.state_dict().items())
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "checkpoint-3")
    assert_same_outputs(saved(IDS, MASK).logits, model.eval()(IDS, MASK).logits)


def test_trainer_of_masked_tokens_counts_them_over_the_batches_of_a_step(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate")
    from transformers import Trainer, TrainingArguments

    model = _model(SoftformerForMaskedLM)
    labels = [IDS[0].masked_fill(torch.arange(LENGTH) >= count, -100) for count in (1, 11)]
    rows = [{"input_ids": IDS[0], "labels": row} for row in labels]
    expected = F.cross_entropy(model(IDS[:1].repeat(2, 1)).logits.flatten(0, 1), torch.cat(labels), ignore_index=-100)
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=1,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=2,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    loss = Trainer(model=model, args=arguments, train_dataset=rows).train().training_loss
    assert loss == pytest.approx(expected.item(), rel=1e-4)


def test_text_classification_pipeline(said: pytest.LogCaptureFixture) -> None:
    names = {number: f"class {number}" for number in range(CLASSES)}
    model = _model(SoftformerForSequenceClassification, vocab_size=261, id2label=names)
    tokenizer = _tokenizer()
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    texts = ["a short text", "another one, which is longer"]
    rows = classify(texts, batch_size=2, padding=True, top_k=None)
    for text, row in zip(texts, rows):
        scores = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0]
        assert {entry["label"]: pytest.approx(entry["score"], abs=1e-5) for entry in row} == {
            name: scores[number].item() for number, name in names.items()
        }
    pair = classify({"text": "one", "text_pair": "two"})
    expected = model(**tokenizer("one", "two", return_tensors="pt")).logits.argmax().item()
    assert pair["label"] == names[expected]
    assert said.records == []


def test_fill_mask_pipeline(said: pytest.LogCaptureFixture) -> None:
    model = _model(SoftformerForMaskedLM, vocab_size=261)
    tokenizer = _tokenizer()
    fill = pipeline("fill-mask", model=model, tokenizer=tokenizer, device="cpu")
    best = fill("a ga[MASK] here", top_k=3)
    inputs = tokenizer("a ga[MASK] here", return_tensors="pt")
    place = inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)
    scores = model(**inputs).logits[0, place].softmax(-1)
    assert [entry["token"] for entry in best] == scores.topk(3).indices.tolist()
    assert best[0]["score"] == pytest.approx(scores.max().item(), abs=1e-5)
    assert said.records == []


def test_export_with_any_batch() -> None:
    model = _model(SoftformerForSequenceClassification)
    axes = {0: torch.export.Dim("batch")}
    program = torch.export.export(
        model,
        (),
        {"input_ids": IDS, "attention_mask": MASK.long()},
        dynamic_shapes={"input_ids": axes, "attention_mask": axes},
    )
    more, mask = IDS.repeat(2, 1)[:3], MASK.repeat(2, 1)[:3].long()
    exported = program.module()(input_ids=more, attention_mask=mask)
    torch.testing.assert_close(exported.logits, model(more, mask).logits)


def test_models_are_pre_trained_models() -> None:
    for kind in MODELS:
        assert issubclass(kind, PreTrainedModel)
        assert kind.config_class is SoftformerConfig
        assert kind.main_input_name == "input_ids"
