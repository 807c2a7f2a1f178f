"""Rows that are too long: which have lost tokens, and that a run says so."""

from __future__ import annotations

from typing import Any

import pytest
from headed import FORMS, Headed
from samples import uneven_examples

import landscape as ls
from landscape.cli import main
from landscape.tasks.example import Completion
from landscape.tasks.forms import form_of
from landscape.tasks.forms.form import Encoding


def rows(kind: str) -> tuple[list[Any], Any]:
    """Examples of a form, of several lengths, and what reads them."""
    if kind == "candidates":
        return uneven_examples(), ls.tiny_tokenizer()
    if kind == "completions":
        asked = [
            Completion("ab" * (i + 1), ("yes",), written="yes\n"[: 3 + i % 2]) for i in range(8)
        ]
        return asked, ls.tiny_tokenizer()
    headed = next(h for h in [*FORMS, Headed("classes", "bert")] if str(h) == kind)
    return list(headed.task(12).train), headed.reader()


KINDS = ["candidates", "completions", *(str(h) for h in FORMS if h.form != "images")]


@pytest.mark.parametrize("kind", KINDS)
def test_those_rows_are_truncated_that_are_longer_than_the_limit_allows(kind) -> None:
    examples, reader = rows(kind)
    encode = form_of(examples).encode
    lengths = [e.length for e in encode(examples, reader, Encoding(500))]
    for limit in sorted(set(lengths)):
        found = encode(examples, reader, Encoding(limit))
        assert [e.truncated for e in found] == [length > limit for length in lengths]
        assert all(e.length == limit for e in found if e.truncated)
    assert len(set(lengths)) > 1


def film(letters: int) -> ls.Example:
    return ls.Example("f" * letters, (" a", " b"), letters % 2)


@pytest.fixture
def task() -> ls.Task:
    """Train rows of one first token, so many letters and two of a candidate: 10 or 13 tokens."""
    train = tuple(film(7 if i < 5 else 10) for i in range(8))
    return ls.Task("letters", train, (film(2),), (film(20),))


def test_a_run_says_how_many_train_rows_were_cut_and_to_how_many_tokens(task, tmp_path) -> None:
    model, tokenizer = ls.tiny_model("opt"), ls.tiny_tokenizer()
    ls.attach(model, ls.random_mask(model, density=0.1))

    def train(limit: int | None, **place: Any) -> ls.Run:
        return ls.finetune(model, tokenizer, task, lr=1e-3, epochs=1, max_length=limit, **place)

    cut = train(12, folder=tmp_path)
    assert cut.metrics["truncated"] == {"rows": 3, "of": 8, "tokens": 12}
    assert repr(cut).endswith(" s; 3 of 8 train rows were cut to 12 tokens")
    assert train(12, folder=tmp_path).metrics["truncated"] == cut.metrics["truncated"]
    whole = train(13)
    assert whole.metrics["truncated"] is None, "test rows that are cut do not count"
    assert "cut to" not in repr(whole)


def test_lanes_of_a_pack_say_which_of_their_own_rows_were_cut(task) -> None:
    model, tokenizer = ls.tiny_model("opt"), ls.tiny_tokenizer()
    mask = ls.random_mask(model, density=0.1)
    lanes = [ls.Lane(task, mask=mask, lr=1e-3, epochs=1, max_length=n) for n in (12, 13)]
    runs = ls.finetune_packed(model, tokenizer, lanes)
    found = [run.metrics["truncated"] for run in runs]
    assert found == [{"rows": 3, "of": 8, "tokens": 12}, None]


def test_finetune_prints_once_what_was_cut_before_it_trains(tmp_path, capsys) -> None:
    from samples import glue_folder, model_folder

    arguments = [
        "finetune", "--model", str(model_folder(tmp_path / "opt")), "--task", "sst2",
        "--source", str(glue_folder(tmp_path / "SST-2")), "--density", "0.1", "--num-train", "8",
        "--num-dev", "4", "--num-test", "4", "--lr", "0.01", "--epochs", "1", "--max-length", "12",
        "--output", str(tmp_path / "run"),
    ]  # fmt: skip
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert said.count("8 of 8 train rows were cut to 12 tokens\n") == 1
    assert main(arguments) == 0
    assert "cut to" not in capsys.readouterr().out, "of a finished run nothing is read"
