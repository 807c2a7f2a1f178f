"""One sentence for every file that cannot be read: its name, its line, what to do."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from samples import glue_folder, model_folder, review_file
from sentences import row, the_sentence

import landscape as ls


def table(name: str, content: bytes) -> Callable[[Path], object]:
    """Read a file of these bytes as sst2's train.tsv, or as a file of reviews."""

    def provoke(folder: Path) -> object:
        if name == "train.tsv":
            (glue_folder(folder / "sst2") / name).write_bytes(content)
            return ls.load_task("sst2", source=folder / "sst2", num_train=1, num_dev=1, num_test=1)
        (folder / name).write_bytes(content)
        return ls.load_task(
            "rotten_tomatoes", source=folder / name, num_train=1, num_dev=1, num_test=1
        )

    return provoke


def model(change: Callable[[Path], object]) -> Callable[[Path], object]:
    """Load a model's folder after a change to it."""

    def provoke(folder: Path) -> object:
        change(model_folder(folder / "model"))
        return ls.load_model(folder / "model")

    return provoke


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def forget_a_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    held = load_file(folder / "model.safetensors")
    held.pop("model.decoder.layers.1.fc1.weight")
    save_file(held, folder / "model.safetensors", metadata={"format": "pt"})


def without_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


HEAD = b"category,text,movie_name\n"
FILES = [
    row("latin-1 tsv", table("train.tsv", "sentence\tlabel\ngut\t1\nschön\t0\n".encode("latin-1")),
        "UTF-8", "train.tsv, line 3", "0xf6", "save the file as UTF-8: iconv"),
    row("latin-1 csv", table("r.csv", HEAD + "fresh,schön,a\n".encode("latin-1")),
        "UTF-8", "r.csv, line 2", "0xf6"),
    row("utf-16 without mark", table("r.csv", HEAD.decode().encode("utf-16-le")),
        "r.csv, line 1", "NUL"),
    row("nul byte", table("train.tsv", b"sentence\tlabel\na\0b\t1\n"), "train.tsv, line 2", "NUL"),
    row("open quote", table("r.csv", HEAD + b'fresh,good,a\nfresh,"good,a\nrotten,bad,b\n'),
        "r.csv, line 3", "quote"),
    row("ragged csv", table("r.csv", HEAD + b"fresh,good\n"), "3 values", "line 2", "got 2"),
    row("ragged tsv", table("train.tsv", b"sentence\tlabel\na\t1\t2\n"), "2 values", "got 3"),
    row("column twice", table("train.tsv", b"label\tlabel\n1\t1\n"), "different names", "label"),
    row("empty csv", table("r.csv", b""), "r.csv", "empty file"),
    row("empty tsv", table("train.tsv", b""), "train.tsv", "empty file"),
    row("cut bz2", table("r.csv.bz2", bz2.compress(HEAD * 9)[:-9]), "a whole .bz2", "r.csv.bz2"),
    row("no bz2", table("r.csv.bz2", HEAD), "a whole .bz2 file", "name a plain file"),
    row("cut gz", table("r.csv.gz", gzip.compress(HEAD * 9)[:-9]), "a whole .gz file"),
    row("no gz", table("r.csv.gz", HEAD), "a whole .gz file"),
    row("cut weights", model(lambda folder: cut(folder / "model.safetensors")),
        "causal language model", "not fully covered", "save_pretrained"),
    row("a weight lacks", model(forget_a_weight),
        "all weights", "got none for model.decoder.layers.1.fc1.weight", "fetch"),
    row("no tokenizer", model(without_tokenizer), "a tokenizer in", "knows no token of text"),
    row("no json", model(lambda folder: (folder / "config.json").write_text("{")),
        "causal language model", "config.json", "not a valid JSON file"),
    row("json of another kind", model(
        lambda folder: (folder / "tokenizer_config.json").write_text("[]")), "save_pretrained"),
]  # fmt: skip


@pytest.mark.parametrize("bad", FILES)
def test_a_file_that_cannot_be_read_is_refused_by_name_and_line(bad, tmp_path) -> None:
    said = the_sentence(lambda: bad.provoke(tmp_path))
    for words in bad.words:
        assert words in said


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_table_reads_alike_in_every_encoding_that_marks_itself(encoding, tmp_path) -> None:
    folder = glue_folder(tmp_path / "sst2")
    text = "sentence\tlabel\nschön\t1\nübel\t0\n"
    (folder / "train.tsv").write_bytes(text.encode(encoding))
    found = ls.load_task("sst2", source=folder, num_train=1, num_dev=1, num_test=1)
    assert {e.prompt for e in found.train + found.dev} == {"schön It was", "übel It was"}


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_a_packed_table_reads_like_a_plain_one(suffix, pack, tmp_path) -> None:
    text = bz2.decompress(review_file(tmp_path / "r.csv.bz2").read_bytes())
    (tmp_path / "plain.csv").write_bytes(text)
    (tmp_path / f"packed.csv{suffix}").write_bytes(pack(text))
    sizes = {"num_train": 9, "num_dev": 9, "num_test": 9}
    one, two = (
        ls.load_task("rotten_tomatoes", source=tmp_path / name, **sizes)
        for name in ("plain.csv", f"packed.csv{suffix}")
    )
    assert (one.train, one.dev, one.test) == (two.train, two.dev, two.test)
