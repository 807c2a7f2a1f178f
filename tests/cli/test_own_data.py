"""Data of one's own on the command line: fine-tune, evaluate, predict; nothing half done."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from command_lines import last_object
from samples import model_folder, rows_on_the_hub

import landscape as ls
from landscape.cli import judging, main
from landscape.cli.guard import DONE, MISTAKE
from landscape.deltas.files import read_about
from landscape.models import tiny_model, tiny_tokenizer
from landscape.sources.hub import HubAnswer
from landscape.tasks import dataset
from landscape.tasks.own.rows import read_own

WORDS = {"bug": "the page is broken", "cost": "the bill is wrong", "talk": "how are you all"}


def tickets(path: Path, size: int = 36, start: int = 0, *, labelled: bool = True) -> Path:
    rows = [[str(i), f"{list(WORDS.values())[i % 3]} {i}", list(WORDS)[i % 3], f"u{i // 2}"]
            for i in range(start, start + size)]  # fmt: skip
    with path.open("w", encoding="utf-8", newline="") as stream:
        header = ["id", "body", "team", "user"]
        csv.writer(stream).writerows(
            row if labelled else [row[0], row[1], row[3]] for row in [header, *rows]
        )
    return path


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("own")
    bert = folder / "bert"
    tiny_model("bert", num_labels=3).save_pretrained(bert)
    tiny_tokenizer().save_pretrained(bert)
    found = {
        "folder": folder, "opt": model_folder(folder / "opt"), "bert": bert,
        "data": tickets(folder / "tickets.csv"), "more": tickets(folder / "more.csv", 9, 90),
        "new": tickets(folder / "new.csv", 7, 200, labelled=False),
    }  # fmt: skip
    for name, more in (("opt", ["--max-length", "9"]), ("bert", ["--head"])):
        run = folder / f"run_{name}"
        assert main(["finetune", *asked(found, name), "--lr", "0.01", "--epochs", "1",
                     "--density", "0.2", "--output", str(run), *more]) == 0  # fmt: skip
        found[f"delta_{name}"] = run / "delta.safetensors"
    return found


def asked(own: dict[str, Path], model: str) -> list[str]:
    return ["--model", str(own[model]), "--data", str(own["data"]), "--text", "body",
            "--label", "team", "--group", "user"]  # fmt: skip


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    return last_object(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["opt", "bert"])
def test_a_delta_of_ones_own_data_is_evaluated_and_predicts_without_being_told_how(
    name, own, tmp_path, capsys
) -> None:
    head = name == "bert"
    delta, out = own[f"delta_{name}"], tmp_path / "p.csv"
    task = ls.task_from(own["data"], text="body", label="team", group="user", head=head)
    assert read_about(delta)["recipe"] == task.source["recipe"]
    model, tokenizer = ls.load_model(own[name], **({"num_labels": 3} if head else {}))
    ls.load_delta(model, delta)
    length = None if head else 9
    for split in ("dev", "test"):
        said = told(capsys, "evaluate", "--delta", delta, "--split", split)
        wanted = ls.evaluate(model, tokenizer, task, split=split, max_length=length)
        assert {key: said[key] for key in wanted} == wanted
    assert told(capsys, "predict", "--delta", delta, "--data", own["new"], "--output", out)[
        "rows"
    ] == 7  # fmt: skip
    with out.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    given = [dict(row.values) for row in read_own(own["new"]).rows]
    assert [{key: row[key] for key in ("id", "body", "user")} for row in rows] == given
    kind = ls.TextExample if head else ls.Example
    examples = [
        kind((row["body"],), 0, tuple(WORDS))
        if head
        else kind(f"{row['body']}\nteam:", tuple(f" {w}" for w in WORDS), 0)
        for row in given
    ]
    for row, one in zip(
        rows, ls.predict(model, tokenizer, examples, max_length=length), strict=True
    ):
        assert row["prediction"] == list(WORDS)[one.label or 0]
        chances = [float(row[f"probability of {word}"]) for word in WORDS]
        assert chances == pytest.approx(one.probabilities, rel=1e-6)


def test_the_head_of_a_classifier_is_trained_and_is_in_the_delta(own) -> None:
    model, _ = ls.load_model(own["bert"], num_labels=3)
    before = model.classifier.weight.detach().clone()
    ls.load_delta(model, own["delta_bert"])
    assert (model.classifier.weight != before).all()


def test_a_delta_of_the_library_is_judged_on_the_task_that_is_named(own, tmp_path, capsys) -> None:
    model, _ = ls.load_model(own["opt"])
    ls.load_delta(model, own["delta_opt"])
    path = ls.save_delta(model, tmp_path / "d.safetensors", about={"note": "mine"})
    said = told(capsys, "evaluate", "--delta", path, "--max-length", 9, *asked(own, "opt"))
    known = told(capsys, "evaluate", "--delta", own["delta_opt"])
    assert said | {"delta": ""} == known | {"delta": ""}
    assert main(["evaluate", "--delta", str(path), "--model", str(own["opt"])]) == MISTAKE
    assert "which does not say its task" in capsys.readouterr().err


def test_all_rows_of_another_file_are_judged(own, capsys) -> None:
    said = told(capsys, "evaluate", "--delta", own["delta_opt"], "--data", own["more"])
    model, tokenizer = ls.load_model(own["opt"])
    ls.load_delta(model, own["delta_opt"])
    found = [
        one.label
        for one in ls.predict(
            model, tokenizer, [
                ls.Example(f"{row.values['body']}\nteam:", tuple(f" {w}" for w in WORDS), 0)
                for row in read_own(own["more"]).rows
            ], max_length=9,
        )
    ]  # fmt: skip
    right = sum(label == i % 3 for i, label in enumerate(found))
    assert (said["n"], said["accuracy"]) == (9, right / 9)


def test_a_model_without_a_delta_is_judged_on_the_split_that_finetune_makes(own, capsys) -> None:
    said = told(capsys, "evaluate", *asked(own, "opt"))
    task = ls.task_from(own["data"], text="body", label="team", group="user")
    assert said["loss"] == ls.evaluate(*ls.load_model(own["opt"]), task)["loss"]


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet", "tsv"])
def test_predictions_are_written_in_the_format_of_the_files_name(ending, own, tmp_path) -> None:
    for name in ("p.csv", f"p.{ending}"):
        assert main(["predict", "--delta", str(own["delta_opt"]), "--data", str(own["new"]),
                     "--output", str(tmp_path / name)]) == 0  # fmt: skip
    one, two = (read_own(tmp_path / name) for name in ("p.csv", f"p.{ending}"))
    assert one.columns == two.columns
    for a, b in zip(one.rows, two.rows, strict=True):
        assert list(a.values.values()) == [str(value) for value in b.values.values()]


def test_without_a_file_predictions_are_json_lines_on_the_standard_output_and_nothing_else_is(
    own, tmp_path, capsys
) -> None:
    asked_ = ["predict", "--delta", str(own["delta_opt"]), "--data", str(own["new"])]
    assert main([*asked_, "--output", str(tmp_path / "p.jsonl")]) == 0
    written = (tmp_path / "p.jsonl").read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(asked_) == 0
    said = capsys.readouterr()
    assert said.out == written
    assert "predictions: 7 rows" in said.err
    found = told(capsys, *asked_)
    assert found["predictions"] == [json.loads(line) for line in written.splitlines()]
    assert (found["output"], found["rows"]) == (None, 7)


def test_a_model_without_a_delta_predicts_what_a_prompt_and_words_say(own, tmp_path) -> None:
    out = tmp_path / "p.jsonl"
    assert main(["predict", "--model", str(own["opt"]), "--data", str(own["new"]),
                 "--output", str(out), "--prompt", "{body}\\nIs it good?",
                 "--verbaliser", "good=great", "bad=poor"]) == 0  # fmt: skip
    first = json.loads(out.read_text(encoding="utf-8").splitlines()[0])
    model, tokenizer = ls.load_model(own["opt"])
    example = ls.Example(f"{first['body']}\nIs it good?", (" great", " poor"), 0)
    (one,) = ls.predict(model, tokenizer, [example])
    assert first["prediction"] == ("good", "bad")[one.label or 0]
    assert first["probability of good"] == pytest.approx(one.probabilities[0])


def test_answers_are_generated_after_training_on_them(own, tmp_path, capsys) -> None:
    run, out = tmp_path / "run", tmp_path / "p.csv"
    common = ["--model", own["opt"], "--data", own["data"], "--text", "body", "--answer", "team"]
    told(capsys, "finetune", *common, "--lr", 0.01, "--epochs", 1, "--density", 0.1,
         "--max-new-tokens", 3, "--dtype", "bfloat16", "--device", "cpu", "--num-test", 2,
         "--output", run)  # fmt: skip
    told(capsys, "predict", "--delta", run / "delta.safetensors", "--data", own["new"],
         "--output", out)  # fmt: skip
    model, tokenizer = ls.load_model(own["opt"], dtype="bfloat16")
    ls.load_delta(model, run / "delta.safetensors")
    rows = read_own(own["new"]).rows
    examples = [ls.Completion(f"{row.values['body']}\nteam:", ("",)) for row in rows]
    found = ls.predict(model, tokenizer, examples, generation=ls.Generation(3))
    written = [row.values["prediction"] for row in read_own(out).rows]
    assert written == [one.answer for one in found]


def test_a_folder_of_images_is_a_task_and_is_predicted(tmp_path, capsys) -> None:
    from PIL import Image
    from transformers import ViTImageProcessor

    model = tmp_path / "vit"
    tiny_model("vit", num_labels=2, num_channels=3).save_pretrained(model)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(model)
    for place, count in (("set/dark", 6), ("set/light", 6), ("new", 3)):
        (tmp_path / place).mkdir(parents=True)
        for i in range(count):
            shade = 20 * i + (130 if "light" in place else 0)
            stream = io.BytesIO()
            Image.new("RGB", (16, 16), (shade, shade, i)).save(stream, "PNG")
            (tmp_path / place / f"{i}.png").write_bytes(stream.getvalue())
    told(capsys, "finetune", "--model", model, "--head", "--data", tmp_path / "set", "--lr", 0.01,
         "--epochs", 1, "--density", 0.1, "--targets", "*attention*",
         "--output", tmp_path / "run")  # fmt: skip
    said = told(capsys, "predict", "--delta", tmp_path / "run" / "delta.safetensors", "--data",
                tmp_path / "new", "--output", tmp_path / "p.csv")  # fmt: skip
    assert said["rows"] == sum(said["counts"].values()) == 3
    (first, *_) = read_own(tmp_path / "p.csv").rows
    assert first.values["file"] == "0.png"
    assert list(first.values)[2:] == ["prediction", "probability of dark", "probability of light"]


@pytest.mark.parametrize("name", ["opt", "bert"])
def test_the_landscape_at_a_delta_is_that_of_its_own_model_and_rows(own, capsys, name) -> None:
    """The same eigenvalue as where model, file and columns are all named."""
    at = ["sharpness", "--delta", own[f"delta_{name}"], "--examples", "6", "--tol", "1e-4"]
    named = [*at, *asked(own, name), *(["--head"] if name == "bert" else [])]
    alone, full = told(capsys, *at), told(capsys, *named)
    assert alone["eigenvalues"] == pytest.approx(full["eigenvalues"], rel=1e-3)
    assert alone["loss"] == full["loss"]


def test_a_deltas_rows_start_as_it_was_trained_on_them(own, capsys, monkeypatch) -> None:
    at = ["sharpness", "--delta", own["delta_opt"], "--examples", "6"]
    usual = told(capsys, *at)["loss"]
    about = judging.about_delta
    monkeypatch.setattr(judging, "about_delta", lambda path: replace(about(path), bos=7))
    assert told(capsys, *at)["loss"] != usual


MISTAKES = {
    "a budget beside a delta": ("sharpness --delta DELTA --ratio 1.0", "got both"),
    "a head for a landscape": ("sharpness --delta DELTA --new-head", "no --new-head"),
    "other data for a landscape than a delta's": (
        "sharpness --delta DELTA --num-train 3", "got --num-train; leave it out"),
    "rows it was trained on": ("evaluate --delta DELTA --data DATA", "was not trained on"),
    "a split of all rows": ("evaluate --delta DELTA --data MORE --split dev", "got --split"),
    "a column beside a delta": ("evaluate --delta DELTA --data MORE --text id", "got --text"),
    "sizes beside its own task": ("evaluate --delta DELTA --num-test 3", "got --num-test"),
    "labels beside a delta": ("evaluate --delta DELTA --num-labels 3", "--num-labels"),
    "a prompt beside a delta": ("predict --delta DELTA --data NEW --output OUT.csv --prompt {id}",
                                "got --prompt"),
    "no such format": ("predict --delta DELTA --data NEW --output OUT.xls", "got x.xls; rename"),
    "the rows themselves": ("predict --delta DELTA --data NEW --output NEW", "another file"),
    "another column": ("predict --delta DELTA --data FEW --output OUT.csv",
                       "to be a column of few.csv, got 'body', which is none; write 'bodies'"),
    "a taken column": ("predict --delta DELTA --data TAKEN --output OUT.csv",
                       "without the column 'prediction'"),
    "an empty text": ("predict --delta DELTA --data EMPTY --output OUT.csv",
                      "a text in the column 'body' of empty.csv, line 3, got an empty one"),
    "nothing to read rows with": ("predict --model OPT --data NEW --output OUT.csv",
                                  "--prompt and --verbaliser"),
    "no words": ("predict --model OPT --data NEW --output OUT.csv --prompt {id} --verbaliser good",
                 "expected LABEL=WORD"),
    "a wrong column": ("finetune --lr 1 --data DATA --text body --label teem", "write 'team'"),
    "a column without data": ("finetune --lr 1 --text body", "--data FILE with --text"),
    "data and task": ("finetune --lr 1 --data DATA --task sst2", "not allowed with"),
    "data and source": ("finetune --lr 1 --data DATA --source x", "--source with --task"),
    "no such data": ("sharpness --data nowhere.csv", "at nowhere.csv, got none"),
    "no such share": ("density --data DATA --dev 1.5", "--dev", "got 1.5"),
    "no such file of a split": ("finetune --lr 1 --data DATA --test x.csv", "at x.csv, got none"),
    "a head for prompts": ("finetune --lr 1 --task boolq --head", "boolq, which has prompts alone"),
    "no such task": ("suggest-lr --task sst3", "a task that `landscape tasks` lists", "'sst3'"),
    "a rate for nothing": (
        "finetune --lr 1 --model OPT --data DATA --text body --label team --dense-lr 1",
        "--dense-lr"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_and_no_file(mistake, own, tmp_path, capsys, monkeypatch) -> None:
    line, *words = MISTAKES[mistake]
    if mistake != "a rate for nothing":
        monkeypatch.setattr(ls, "load_model", None)  # whatever is wrong is told before it
    files = {name: tmp_path / f"{name.lower()}.csv" for name in ("FEW", "TAKEN", "EMPTY")}
    files["FEW"].write_text("bodies,id\na,1\n", encoding="utf-8")
    files["TAKEN"].write_text("body,prediction\na,1\n", encoding="utf-8")
    files["EMPTY"].write_text("body,id\na,1\n ,2\n", encoding="utf-8")
    files |= {"DELTA": own["delta_opt"], "DATA": own["data"], "MORE": own["more"],
              "NEW": own["new"], "OPT": own["opt"]}  # fmt: skip
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    arguments = [str(files.get(word, word)).replace("OUT", str(tmp_path / "x"))
                 for word in line.split()]  # fmt: skip
    assert main(arguments) == MISTAKE
    said = capsys.readouterr().err
    assert said.startswith("error: expected") or "argument" in said
    assert said.count("\n") == 1
    for word in words:
        assert word in said, said
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_data_that_has_changed_since_the_training_is_not_judged_as_its_test_split(
    own, tmp_path, capsys
) -> None:
    data = tickets(tmp_path / "t.csv")
    run = tmp_path / "run"
    told(capsys, "finetune", "--model", own["opt"], "--data", data, "--text", "body", "--label",
         "team", "--lr", 0.01, "--epochs", 1, "--density", 0.1, "--output", run)  # fmt: skip
    delta = run / "delta.safetensors"
    assert told(capsys, "evaluate", "--delta", delta)["n"] == 4
    tickets(data, 39)
    assert main(["evaluate", "--delta", str(delta)]) == MISTAKE
    assert "got other files of the same name" in capsys.readouterr().err


def test_another_revision_of_a_data_set_on_the_hub_is_not_judged_as_a_deltas_test_split(
    own, tmp_path, capsys, monkeypatch
) -> None:
    films = [{"sentence": f"film {i}", "label": i % 2} for i in range(12)]
    seen = [{"sentence": f"seen {i}", "label": i % 2} for i in range(6)]
    rows_on_the_hub(monkeypatch, {"train": films, "validation": seen})
    told(capsys, "finetune", "--model", own["opt"], "--task", "sst2", "--num-train", 8, "--num-dev",
         4, "--lr", 0.01, "--epochs", 1, "--density", 0.1, "--output", tmp_path)  # fmt: skip
    judge = ["evaluate", "--delta", tmp_path / "delta.safetensors"]
    assert told(capsys, *judge)["n"] == 6
    for revision, code in ((None, DONE), ("def", MISTAKE)):
        answer = HubAnswer(True, revision=revision)
        monkeypatch.setattr(dataset, "ask_hub", lambda *_, answer=answer, **__: answer)
        assert main([str(word) for word in judge]) == code
    assert "got other files of the same name (sst2)" in capsys.readouterr().err


def test_predictions_are_written_whole_or_not_at_all(own, tmp_path, monkeypatch) -> None:
    out = tmp_path / "p.csv"
    out.write_text("as before", encoding="utf-8")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("landscape.tasks.own.writing._table", stop)
    assert main(["predict", "--delta", str(own["delta_opt"]), "--data", str(own["new"]),
                 "--output", str(out)]) == 130  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]
    assert out.read_text(encoding="utf-8") == "as before"


@pytest.mark.parametrize(("width", "wide"), [("80", False), ("100", False), ("160", True)])
def test_the_list_of_tasks_fits_the_terminal(capsys, monkeypatch, width: str, wide: bool) -> None:
    monkeypatch.setenv("COLUMNS", width)
    assert main(["tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= int(width)
    assert {line.split()[0] for line in lines} >= {*ls.tasks.TASKS}
    assert ("train/dev/test" in lines[0]) is wide


@pytest.mark.parametrize(
    ("typed", "offered"), [("sst", "sst2"), ("STS-B", "stsb"), ("imdb", "a file with --data")]
)
def test_a_task_of_an_unknown_name_is_refused_with_the_nearest(capsys, typed, offered) -> None:
    assert main(["finetune", "--task", typed, "--lr", "1"]) == MISTAKE
    said = capsys.readouterr().err
    assert f"got {typed!r}" in said
    assert offered in said


def test_a_language_model_is_refused_for_bare_texts_by_the_option_that_mends_it(
    own, capsys
) -> None:
    asked = ["--data", str(own["data"]), "--text", "body", "--label", "team", "--head"]
    assert main(["finetune", *asked, "--lr", "1"]) == MISTAKE
    said = capsys.readouterr().err
    assert "a model with a head for tickets" in said
    assert "--model, such as minilm-l6" in said
    assert "num_labels" not in said


def test_a_missing_column_is_asked_for_by_the_option_of_the_command_line(own, capsys) -> None:
    assert main(["finetune", "--data", str(own["data"]), "--lr", "1"]) == MISTAKE
    assert "(--label)" in capsys.readouterr().err


def test_the_tasks_that_are_known_are_listed(capsys) -> None:
    rows = told(capsys, "tasks")["tasks"]
    assert [row["task"] for row in rows] == list(ls.tasks.TASKS)
