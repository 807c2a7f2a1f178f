"""Every architecture and head through a folder: the same weights, in any type and of any files."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from samples import model_folder

import landscape as ls
from landscape.errors import UserError
from landscape.models.architectures import ARCHITECTURES
from landscape.models.kinds import head_modules, kind, labels_of
from landscape.models.placement import checked_device
from landscape.tasks.encoding import length_limit

TEXTS = [name for name in ARCHITECTURES if name not in ("vit", "resnet", "clip")]
ENCODERS = ["bert", "roberta", "mpnet", "deberta-v2"]
WAYS = [*((name, None) for name in ARCHITECTURES), *((name, "sequence") for name in TEXTS),
        *((name, "tokens") for name in TEXTS if name != "opt")]  # fmt: skip
KINDS = {
    **dict.fromkeys(("opt", "llama", "qwen2", "gpt2"), "causal language model"),
    **dict.fromkeys(ENCODERS, "sequence classifier"),
    **dict.fromkeys(("vit", "resnet"), "image classifier"),
    "t5": "encoder-decoder language model", "clip": "encoder of images and texts",
}  # fmt: skip


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(v, theirs[n]) for n, v in ours.items())


@pytest.mark.parametrize(("architecture", "head"), WAYS)
def test_a_folder_is_read_as_what_it_holds_bit_for_bit(tmp_path, architecture, head) -> None:
    folder = model_folder(tmp_path, architecture, head=head)
    made = ls.tiny_model(architecture, head=head)
    read, beside = ls.load_model(folder)
    assert type(read) is type(made)
    assert same_weights(read, made)
    assert not read.training
    expected = {"sequence": "sequence classifier", "tokens": "token classifier"}.get(head)
    assert kind(read) == (expected or KINDS[architecture])
    assert hasattr(beside, "image_processor") == (architecture == "clip")
    if architecture not in ("vit", "resnet", "clip"):
        assert beside("a film").input_ids == ls.tiny_tokenizer()("a film").input_ids


@pytest.mark.parametrize("head", ["sequence", "tokens"])
@pytest.mark.parametrize("architecture", ["bert", "roberta", "deberta-v2", "mpnet", "qwen2", "t5"])
def test_a_language_models_body_gets_the_head_that_is_asked_for(
    tmp_path, architecture, head
) -> None:
    if architecture in ENCODERS:  # as a hub's encoder is stored: without a head
        body = ls.tiny_model(architecture).base_model
        body.save_pretrained(tmp_path)
        ls.tiny_tokenizer().save_pretrained(tmp_path)
    else:
        model_folder(tmp_path, architecture)
        body = ls.tiny_model(architecture).base_model
    first, second, other = (
        ls.load_model(tmp_path, num_labels=5, head=head, seed=s)[0] for s in (1, 1, 2)
    )
    assert labels_of(first) == 5
    assert same_weights(first, second)
    assert not same_weights(first, other)
    read = first.base_model.state_dict()
    shared = [n for n in read if n in body.state_dict() and "pooler" not in n]
    assert len(shared) >= 20
    assert all(torch.equal(read[n], body.state_dict()[n]) for n in shared)


def test_one_label_is_a_regression_head_with_the_mean_squared_error(tmp_path) -> None:
    model, tokenizer = ls.load_model(model_folder(tmp_path, "llama"), num_labels=1)
    tokens = tokenizer(["a film", "a plot"], return_tensors="pt")
    labels = torch.tensor([0.5, 4.0])
    with torch.no_grad():
        out = model(**tokens, labels=labels)
    assert labels_of(model) == 1
    assert out.logits.shape == (2, 1)
    torch.testing.assert_close(out.loss, (out.logits[:, 0] - labels).square().mean())


def test_another_number_of_labels_than_the_head_has_is_refused_or_makes_a_new_head(
    tmp_path,
) -> None:
    folder = model_folder(tmp_path, "vit")
    with pytest.raises(UserError, match=r"expected num_labels=3, as the head of the image class.* "
                                        r"got 10; give 3, or new_head=True"):  # fmt: skip
        ls.load_model(folder, num_labels=10)
    made = ls.tiny_model("vit")
    for labels in (3, 10):  # of a head that would fit too
        one, again, other = (
            ls.load_model(folder, num_labels=labels, new_head=True, seed=s)[0] for s in (0, 0, 1)
        )
        assert one.classifier.weight.shape == (labels, 32)
        assert same_weights(one, again)
        assert same_weights(one.vit, made.vit)
        assert same_weights(one.vit, other.vit)
        assert not torch.equal(one.classifier.weight, other.classifier.weight)
        assert not one.classifier.weight.equal(made.classifier.weight)


def test_a_new_head_of_clip_leaves_its_tower_as_it_was_and_is_what_is_trained_whole(
    tmp_path,
) -> None:
    whole = ls.tiny_model("clip")
    first, processor = ls.load_model(model_folder(tmp_path / "clip", "clip"), num_labels=3)
    assert head_modules(first) == ["classifier"]
    assert same_weights(first.vision_model, whole.vision_model)
    first.save_pretrained(tmp_path / "first")
    processor.save_pretrained(tmp_path / "first")
    other, _ = ls.load_model(tmp_path / "first", num_labels=4, new_head=True, seed=1)
    assert other.classifier.weight.shape == (4, 32)
    assert same_weights(other.vision_model, whole.vision_model)
    fixed, _ = ls.load_model(tmp_path / "clip", classes=["cat", "dog"])
    assert head_modules(fixed) == []


def sharded(folder: Path) -> Path:
    ls.tiny_model("llama").save_pretrained(folder, max_shard_size="30KB")
    ls.tiny_tokenizer().save_pretrained(folder)
    return folder / "model.safetensors.index.json"


def test_weights_in_several_files_are_read_as_one(tmp_path) -> None:
    parts = set(json.loads(sharded(tmp_path).read_text())["weight_map"].values())
    assert len(parts) > 3
    assert same_weights(ls.load_model(tmp_path)[0], ls.tiny_model("llama"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda parts: {**parts, "model.norm.weight": "../other.safetensors"},
         r"name files beside it, got '\.\./other\.safetensors', which is elsewhere"),
        (lambda parts: {**parts, "model.norm.weight": "/etc/passwd"}, "which is elsewhere"),
        (lambda parts: {**parts, "model.norm.weight": "gone.safetensors"},
         "expected the file gone.safetensors beside .* found none; fetch"),
        (lambda parts: {n: p for n, p in parts.items() if n != "model.norm.weight"}, None),
        (lambda parts: None, "expected a JSON object with a weight_map"),
    ],
)  # fmt: skip
def test_an_index_that_names_what_is_not_there_is_refused(tmp_path, change, message) -> None:
    index = sharded(tmp_path)
    held = json.loads(index.read_text())
    held["weight_map"] = change(held["weight_map"])
    index.write_text(json.dumps(held))
    if message is None:  # the weight is in its file all the same
        assert same_weights(ls.load_model(tmp_path)[0], ls.tiny_model("llama"))
        return
    with pytest.raises(UserError, match=message):
        ls.load_model(tmp_path)


@pytest.mark.parametrize("where", [{"num_labels": 2}, {}])
def test_a_body_that_lacks_weights_is_refused_though_the_head_may(tmp_path, where) -> None:
    from safetensors.torch import load_file, save_file

    model_folder(tmp_path, "bert")
    held = load_file(tmp_path / "model.safetensors")
    lost = "bert.encoder.layer.1.attention.self.query.weight"
    kept = {n: t for n, t in held.items() if n != lost}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    words = rf"expected all weights of a sequence classifier in .* got none for {lost}; fetch the"
    with pytest.raises(UserError, match=words):
        ls.load_model(tmp_path, **where)


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize("architecture", ["llama", "t5", "resnet"])
def test_weights_come_in_the_type_that_is_asked_for_by_name_or_value(
    tmp_path, architecture, name
) -> None:
    folder, dtype = model_folder(tmp_path, architecture), getattr(torch, name)
    by_name, by_value = (ls.load_model(folder, dtype=given)[0] for given in (name, dtype))
    assert same_weights(by_name, by_value)
    made = dict(ls.tiny_model(architecture).named_parameters())
    for n, p in by_name.named_parameters():
        assert p.dtype == dtype or "wo" in n, n  # T5 keeps these in float32 beside float16
        assert torch.equal(p, made[n].to(p.dtype))


@pytest.mark.parametrize(
    "place", [{"device_map": {"": "cpu"}}, {"device": "cpu"}, {"device_map": "auto"}]
)
def test_a_model_that_accelerate_has_placed_is_masked_and_trained_as_any(tmp_path, place) -> None:
    from samples import short_task

    folder, results = model_folder(tmp_path, "opt"), []
    for given in ({}, place):
        model, tokenizer = ls.load_model(folder, **given)
        ls.attach(model, ls.random_mask(model, density=0.1, seed=0))
        run = ls.finetune(model, tokenizer, short_task(), lr=1e-2, epochs=1, seed=0)
        results.append(
            (run.metrics["test"], {n: t.detach() for n, t in ls.trainable(model).items()})
        )
    (metrics, thetas), (others, moved) = results
    assert metrics == others
    assert all(theta.any() and torch.equal(theta, moved[n]) for n, theta in thetas.items())


def test_a_full_device_is_told_from_one_that_is_not_there(monkeypatch) -> None:
    def full(*args: object, **how: object) -> None:
        raise RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA")

    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(UserError, match="got 'cuda', whose memory is full; wait for those"):
        checked_device("device", "cuda")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"dtype": "float8"},
            "expected dtype to be a floating type .float32, bfloat16,.* 'float8'",
        ),
        ({"dtype": torch.int64}, "got the text 'torch.int64'; give torch.float32"),
        ({"device": "tpu7"}, "expected device to be a device of torch, got the text 'tpu7'; give"),
        ({"device": "meta"}, "expected device to be a device that holds values"),
        ({"device": 3.5}, "expected device to be a device of torch, got 3.5"),
        ({"device": True}, "expected device to be a device of torch, got True"),
        ({"device": "hpu"}, "one that torch finds on this machine, got 'hpu' .*; give 'cpu', or"),
        ({"device_map": "everywhere"}, "one of auto, balanced, .* check the spelling"),
        ({"device_map": {"": "nowhere"}}, r"device_map\[''\] to be a device of torch"),
        ({"device_map": ["cpu"]}, "expected device_map to be a Mapping"),
        ({"device": "cpu", "device_map": "auto"}, "expected device or device_map, got both"),
        ({"head": "tokens"}, "expected num_labels= with head='tokens', got none"),
        ({"head": "image", "num_labels": 2}, "expected head to be one of sequence, tokens"),
        ({"new_head": True}, "expected num_labels= with new_head, got none"),
        ({"num_labels": 2, "new_head": 1}, "expected new_head to be True or False"),
        ({"templates": ["a {}"]}, "expected templates to be None without classes"),
        ({"classes": ["a", "b"]}, "expected a CLIP model in .* for classes=, got opt"),
        ({"num_labels": 2, "head": "tokens"}, "expected a token classifier with its tokenizer in "),
    ],
)
def test_what_cannot_be_loaded_is_refused_by_name(tmp_path, given, message) -> None:
    folder = model_folder(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        ls.load_model(folder, **given)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_here_is_refused_before_anything_is_read(tmp_path) -> None:
    with pytest.raises(UserError, match=r"finds on this machine, got 'cuda' .*; give 'cpu'"):
        ls.load_model(tmp_path / "nothing", device="cuda")


def test_a_repository_with_an_architecture_of_its_own_is_refused_and_its_code_never_runs(
    tmp_path,
) -> None:
    folder = model_folder(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    code = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Own"}
    config |= {"model_type": "own", "architectures": ["Own"], "auto_map": code}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(UserError, match="code of its own, which is never run") as caught:
        ls.load_model(folder)
    assert "trust_remote_code" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_rows_of_an_encoder_are_as_long_as_its_positions_go(tmp_path) -> None:
    for architecture, limit in (("roberta", 18), ("mpnet", 18), ("bert", 20)):
        model = ls.tiny_model(architecture, max_position_embeddings=20, pad_token_id=1)
        assert length_limit(model) == limit
        ids = torch.full((1, limit), 5)
        assert math.isfinite(model(input_ids=ids).logits.sum())
        with pytest.raises((IndexError, RuntimeError, ValueError)):
            model(input_ids=torch.full((1, limit + 1), 5))


def test_the_kind_of_a_model_is_seen_through_its_wrappers() -> None:
    model = ls.tiny_model("bert", head="tokens")
    assert kind(torch.nn.DataParallel(model)) == "token classifier"
    assert labels_of(torch.nn.DataParallel(model)) == 2
    bart = transformers.BartConfig(
        vocab_size=64, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
    )  # fmt: skip
    assert kind(transformers.BartForConditionalGeneration(bart)) == "encoder-decoder language model"
    assert kind(transformers.BartModel(bart)) is None
    assert kind(ls.tiny_model("bert").base_model) is None
    assert labels_of(ls.tiny_model("opt")) == 0


LOADING = """
import re, sys, threading, time
import landscape as ls
from landscape.models import load

ls.tiny_model("llama")  # imports what a first model imports

def held():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

start, peak, done = held(), 0, False

def watch():
    global peak
    while not done:
        peak = max(peak, held() - start)
        time.sleep(0.001)

thread = threading.Thread(target=watch)
thread.start()
model, _ = ls.load_model(sys.argv[1], dtype="bfloat16")
done = True
thread.join()
print(peak, sum(p.numel() * p.element_size() for p in model.parameters()))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is Linux's to tell")
@pytest.mark.parametrize("shard", ["20MB", "1GB"])
def test_narrow_weights_are_read_without_a_wide_copy_of_them(tmp_path, shard) -> None:
    size = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 6}
    ls.tiny_model("llama", **size).save_pretrained(tmp_path, max_shard_size=shard)
    ls.tiny_tokenizer().save_pretrained(tmp_path)
    told = subprocess.run(
        [sys.executable, "-c", LOADING, str(tmp_path)], capture_output=True, text=True, check=True
    )
    peak, weights = map(int, told.stdout.split())
    assert weights > 100e6
    assert peak < 1.2 * weights


def test_gradients_pass_the_hooks_that_accelerate_puts_on_every_layer() -> None:
    from accelerate.hooks import attach_align_device_hook
    from families import case_of

    case = case_of("llama")
    found = []
    for hooked in (False, True):
        model = case.model()
        if hooked:
            attach_align_device_hook(model, execution_device="cpu")
            assert "forward" in model.lm_head.__dict__
        ls.attach(model, ls.random_mask(model, density=0.1, targets="*", seed=0))
        for theta in ls.trainable(model).values():
            theta.data.fill_(0.01)
        case.loss(model).backward()
        found.append({n: t.grad for n, t in ls.trainable(model).items()})
    for name, grad in found[0].items():
        torch.testing.assert_close(found[1][name], grad, rtol=1e-6, atol=1e-12)


def test_weights_that_a_device_map_leaves_on_disk_cannot_be_masked(tmp_path) -> None:
    folder = model_folder(tmp_path / "m", "llama")
    places = {"model.layers.1": "disk", "model.layers.0": "cpu", "model.embed_tokens": "cpu",
              "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}  # fmt: skip
    model, _ = ls.load_model(folder, device_map=places)
    with torch.no_grad():
        whole = ls.tiny_model("llama")(input_ids=torch.tensor([[1, 5, 9]])).logits
        assert torch.equal(model(input_ids=torch.tensor([[1, 5, 9]])).logits, whole)
    ls.attach(model, ls.random_mask(model, density=0.1, targets="*.layers.0.*.q_proj", seed=0))
    ls.detach(model)
    with pytest.raises(UserError, match=r"layers.1.self_attn.q_proj.weight to hold values, got it "
                                        r"on the meta device .*; load the weights"):  # fmt: skip
        ls.attach(model, ls.random_mask(model, density=0.1, targets="*.layers.1.*.q_proj", seed=0))


def test_a_tokenizer_that_needs_another_package_says_which(tmp_path) -> None:
    ls.tiny_model("deberta-v2").save_pretrained(tmp_path)  # stored as DeBERTa-v3 is on the hub
    (tmp_path / "spm.model").write_bytes(b"a SentencePiece model, which nothing here can read")
    with pytest.raises(UserError, match=r"is a SentencePiece model, .*; install what reads it with"
                                        r": pip install sentencepiece protobuf; or"):  # fmt: skip
        ls.load_model(tmp_path, num_labels=2)
