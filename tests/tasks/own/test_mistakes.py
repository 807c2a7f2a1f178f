"""One sentence for every mistake in data of one's own: the file, the line, what to do."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from sentences import row, the_sentence

import landscape as ls

GOOD = b"text,label\nfine,good\npoor,bad\nnice,good\nweak,bad\n"
USUAL = {"text": "text", "label": "label", "dev": 0.25, "test": 0.25}


def file(content: bytes, name: str = "t.csv", **changed: object) -> Callable[[Path], object]:
    """Make a task of a file of these bytes; an argument changed to None is left out."""

    def provoke(folder: Path) -> object:
        (folder / name).write_bytes(content)
        given = {k: v for k, v in {**USUAL, **changed}.items() if v is not None}
        for split in ("dev", "test"):
            if isinstance(given[split], bytes):
                (folder / f"{split}.csv").write_bytes(given[split])
                given[split] = folder / f"{split}.csv"
        return ls.task_from(folder / name, **given)

    return provoke


def rows(*values: object, **changed: object) -> Callable[[Path], object]:
    given = {k: v for k, v in {**USUAL, **changed}.items() if v is not None}
    return lambda folder: ls.task_from(list(values), **given)


def folder(*names: str, **changed: object) -> Callable[[Path], object]:
    def provoke(place: Path) -> object:
        for name in names:
            (place / "set" / name).parent.mkdir(parents=True, exist_ok=True)
            stream = io.BytesIO()
            Image.new("I;16" if "deep" in name else "L", (2, 2)).save(stream, "PNG")
            broken = stream.getvalue()[:-20]
            (place / "set" / name).write_bytes(broken if "cut" in name else stream.getvalue())
        (place / "set").mkdir(exist_ok=True)
        return ls.task_from(place / "set", **changed)

    return provoke


HEAD, TWO = b"text,label\n", b"fine,good\npoor,bad\n"
MANY = HEAD + b"".join(b"film %d,%d\n" % (i, i) for i in range(101))
LINES = b'{"text": "a", "label": "x"}\n'
MISTAKES = [
    row("no such file", lambda f: ls.task_from(f / "no.csv", **USUAL), "a file at", "no.csv",
        "got none"),
    row("no such format", file(GOOD, "t.xlsx"), ".csv", "got t.xlsx", "convert it"),
    row("wrong text column", file(GOOD, text="txt"), "text to be a column of t.csv", "'txt'",
        "write 'text'"),
    row("wrong label column", file(GOOD, label="Lable"), "label to be a column", "write 'label'"),
    row("nothing near", file(GOOD, label="verdict"), "choose among text, label"),
    row("wrong group", file(GOOD, group="user"), "group to be a column", "got 'user'"),
    row("wrong answer column", file(GOOD, label=None, answer="labels"), "answer to be", "'label'"),
    row("no label", file(GOOD, label=None), "label=", "answer=", "got neither"),
    row("label and answer", file(GOOD, answer="label"), "got both"),
    row("no text", file(GOOD, text=None), "text=", "prompt=", "got neither"),
    row("the label as its text", file(GOOD, text="label"), "its own answer", "'label' in both"),
    row("the label in the prompt", file(GOOD, prompt="{text} {label}"), "its own answer"),
    row("a prompt of another column", file(GOOD, prompt="{txt}?"), "got {txt}", "write 'text'"),
    row("an open brace", file(GOOD, prompt="{text"), "columns in braces", "{{ or }}"),
    row("an attribute", file(GOOD, prompt="{text.__class__}"), "got {text.__class__}"),
    row("a conversion", file(GOOD, prompt="{text!r:>9}"), "{text!r:>9}", "leave out"),
    row("a prompt without columns", file(GOOD, prompt="Is it?"), "the same for every row"),
    row("a word too few", file(GOOD, verbaliser={"good": "x"}), "got none for 'bad'"),
    row("a word for no label", file(GOOD, verbaliser={"god": "x", "bad": "y"}), "'god'",
        "write 'good'"),
    row("one word for two", file(GOOD, verbaliser={"good": "x", "bad": " x"}), "x, x", "alike"),
    row("an empty word", file(GOOD, verbaliser={"good": " ", "bad": "y"}), "label 'good'"),
    row("words for a head", file(GOOD, head=True, verbaliser={"good": "x", "bad": "y"}),
        "verbaliser= beside it"),
    row("a head for answers", file(GOOD, label=None, answer="label", head=True), "head= beside"),
    row("a separator for a label", file(GOOD, separator="|"), "separator= beside it"),
    row("three texts for a head", file(b"a,b,c,label\n1,2,3,x\n", text=("a", "b", "c"), head=True),
        "one or two columns", "got 3"),
    row("an empty text", file(HEAD + TWO + b'" ",bad\n'), "'text' of t.csv, line 4", "empty one"),
    row("no group", file(b"text,label,g\na,1,x\nb,2,\n", group="g"), "a group in the column 'g' of "
        "t.csv, line 3", "got an empty one; fill it in"),
    row("a blank group", file(b"text,label,g\na,1,x\nb,2, \n", group="g"), "t.csv, line 3"),
    row("an empty label", file(HEAD + TWO + b"odd, \n"), "'label' of t.csv, line 4", "empty one"),
    row("an empty answer", file(HEAD + TWO + b"odd,\n", label=None, answer="label"),
        "an answer", "t.csv, line 4"),
    row("an answer of two lines", file(HEAD + b'a,"b\nc"\n', label=None, answer="label"),
        "one line in t.csv, line 3", "b\\nc"),
    row("a single row of a class", file(HEAD + TWO + b"fun,good\nsad,bad\nodd,goood\n"),
        "got one of 'goood', t.csv, line 6"),
    row("one class", file(HEAD + b"a,x\nb,x\n"), "2 to 100 labels", "got 1 (x)"),
    row("too many classes", file(MANY), "got 101", "regression=True", "answer="),
    row("a label that test alone has", file(GOOD, test=HEAD + b"fine,goood\n"),
        "test.csv, line 2", "'goood'", "write 'good'"),
    row("a column that dev lacks", file(GOOD, dev=b"texts,label\na,good\n"),
        "what dev shows to be a column of dev.csv, got 'text'", "write 'texts'"),
    row("no number", file(HEAD + b"a,1\nb,2\nc,many\n", regression=True), "finite number",
        "t.csv, line 4", "'many'"),
    row("an infinite number", file(HEAD + b"a,1\nb,inf\n", regression=True), "line 3", "'inf'"),
    row("a ragged row", file(GOOD + b"a,b,c\n"), "2 values", "t.csv, line 6", "got 3"),
    row("an open quote", file(GOOD + b'"never,good\nso,bad\n'), "t.csv, line 6", "not closed"),
    row("latin-1", file(GOOD + "schön,good\n".encode("latin-1")), "UTF-8", "t.csv, line 6",
        "0xf6", "iconv -f WINDOWS-1252 -t UTF-8 t.csv"),
    row("utf-16 without a mark", file(GOOD.decode().encode("utf-16-le")), "NUL", "UTF-8"),
    row("a NUL byte", file(GOOD + b"a\0b,good\n"), "t.csv, line 6", "NUL"),
    row("a header alone", file(HEAD), "rows in t.csv, got none"),
    row("a column twice", file(b"text,text\na,b\n"), "different names", "text, text"),
    row("a corrupt line", file(LINES + b'{"text": "b", "lab\n', "t.jsonl"), "t.jsonl, line 2"),
    row("half a pair of surrogates",
        file(LINES + b'{"text": "b\\ud83d", "label": "x"}\n', "t.jsonl"),
        "t.jsonl, line 2", "surrogates"),
    row("lists without an end", file(LINES + b"[" * 100_000 + b"\n", "t.jsonl"),
        "t.jsonl, line 2", "correct the line"),
    row("no object", file(LINES + b"[1]\n", "t.jsonl"), "an object in t.jsonl, line 2", "list"),
    row("a missing field", file(LINES + b'{"text": "b"}\n', "t.jsonl"), "label", "t.jsonl, line 2"),
    row("a list as text", file(b'{"text": ["a"], "label": 1}\n{"text": "b", "label": 2}\n',
                               "t.jsonl"), "a text in the column 'text' of t.jsonl, line 1"),
    row("json of no list", file(b'{"text": 1}', "t.json"), "a list of objects", "dict"),
    row("no parquet", file(b"PAR1", "t.parquet"), "a parquet file", "t.parquet"),
    row("no shares left", file(GOOD, dev=0.5, test=0.5), "shares of 0.5 and 0.5"),
    row("a share above one", file(GOOD, dev=2), "dev to be a finite number above 0", "got 2"),
    row("one group", file(b"text,label,g\na,1,x\nb,1,x\nc,2,x\nd,2,x\n", group="g"),
        "for test", "1 groups", "files for dev and test"),
    row("more than there are", file(GOOD, num_train=9), "at most 2 examples for train",
        "num_train=9"),
    row("another metric", file(GOOD, metric="f2"), "metric", "f1", "'f2'"),
    row("f1 of three labels", file(b"text,label\n" + b"a,x\nb,y\nc,z\n" * 9, metric="f1"),
        "two labels", "3 in", "macro_f1"),
    row("a row that is none", rows({"text": "a", "label": "b"}, "c"), "data, row 2", "'c'"),
    row("one dict", lambda f: ls.task_from({"text": "a"}, **USUAL), "a list of dicts"),
    row("a number", lambda f: ls.task_from(3, **USUAL), "the path of a file", "got 3"),
    row("nothing", rows(), "rows in data, got none"),
    row("no image", folder("cat/a.txt"), "images", "got none"),
    row("a cut image", folder("cat/a.png", "dog/cut.png"), "an image in set/dog/cut.png", "bytes"),
    row("a deep image", folder("cat/a.png", "dog/deep.png"), "8 bits", "set/dog/deep.png", "I;16"),
    row("one folder", folder("cat/a.png", "cat/b.png"), "2 to 100 labels", "(cat)"),
    row("splits as folders", folder("train/cat/a.png", "test/dog/a.png"), "set/CLASS/",
        "test/dog/a.png", "the folder of one split"),
    row("a text of images", folder("cat/a.png", "dog/a.png", text="x"), "text= beside it"),
]  # fmt: skip


@pytest.mark.parametrize("bad", MISTAKES)
def test_a_mistake_in_ones_own_data_is_refused_by_name_and_line(bad, tmp_path) -> None:
    said = the_sentence(lambda: bad.provoke(tmp_path))
    for words in bad.words:
        assert words in said, said


def test_data_without_a_mistake_is_a_task(tmp_path) -> None:
    assert len(file(GOOD)(tmp_path).train) == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("stored", [
    {}, {"kind": "none"}, {"kind": "candidates"}, {"kind": "answers", "prompt": 3},
    {"kind": "classes", "texts": "ab"}, {"kind": "classes", "texts": ["a", 1]},
    {"kind": "classes", "texts": ["a"], "more": ""}, {"kind": "classes", "texts": ["a", "b", "c"]},
    {"kind": "candidates", "prompt": "{a}", "classes": ["a", "b"], "words": ["x"]},
], ids=json.dumps)  # fmt: skip
def test_a_recipe_that_nobody_wrote_is_refused(stored) -> None:
    from landscape.tasks.own.recipe import Recipe

    assert "d.safetensors" in the_sentence(lambda: Recipe.of(stored, "d.safetensors"))
