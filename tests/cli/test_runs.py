"""``landscape runs``: what a store holds, in words and as JSON, and what is never removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_lines import last_object
from finished_runs import CORRECT, config, filled, outcome
from sentences import THREE_PARTS

import landscape as ls
from landscape.cli import main
from landscape.cli.guard import MISTAKE
from landscape.figures.curve import format_curve, means
from landscape.folders import write_json
from landscape.sweep import write_rows

ROW = {"granularity": "row"}


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tables have the same width wherever the tests run."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def store(tmp_path: Path) -> ls.RunStore:
    return filled(tmp_path / "store")


def said(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    assert main(["runs", *map(str, words)]) == code
    printed = capsys.readouterr()
    return printed.err if code else printed.out


def result(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    return last_object(said(capsys, *words, "--json"))


def harm(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def test_list_tells_what_varies_in_a_table_and_what_does_not_once(store, capsys) -> None:
    text = said(capsys, "list", store.folder)
    first, *rest = text.splitlines()
    assert first == f"6 runs in {store.folder}"
    assert text.count("0.001") == 1
    assert text.count("smollm2-135m") == 1
    table = [line.split() for line in rest[-7:]]
    assert table[0] == ["address", "method", "seed", "mask_seed", "options.granularity",
                        "test_accuracy", "dev_accuracy"]  # fmt: skip
    assert [(line[1], int(line[2])) for line in table[1:]] == list(CORRECT)
    wanted = [correct.count("1") / 10 for correct in CORRECT.values()]
    assert [float(line[5]) for line in table[1:]] == pytest.approx(wanted)
    starts = [config(method=m, seed=s, options=ROW if m == "structured" else {}).address
              for m, s in CORRECT]  # fmt: skip
    assert [line[0] for line in table[1:]] == [address[:8] for address in starts]


def test_list_chooses_sorts_and_prints_json_alone(store, capsys) -> None:
    found = result(capsys, "list", store.folder, "--where", "method=random", "seed=0", "seed=2",
                   "--sort", "test_accuracy")  # fmt: skip
    assert [(r["seed"], r["test_accuracy"], r["count"]) for r in found["runs"]] == [
        (2, 0.7, None), (0, 0.8, None)
    ]  # fmt: skip
    assert found["left_out"] == found["unfinished"] == []
    assert said(capsys, "list", store.folder, "--where", "seed=7").startswith("0 runs of 6")


def test_json_has_every_digit_of_small_numbers(tmp_path, capsys) -> None:
    store = ls.RunStore(tmp_path)
    store.write(config(lr=1.2345678901234567e-09), outcome(distance=None, updated=2))
    store.write(config(lr=1.0), outcome())
    first, second = sorted(result(capsys, "list", tmp_path)["runs"], key=lambda r: r["lr"])
    assert (first["lr"], first["distance"], first["updated"]) == (1.2345678901234567e-09, None, 2)
    assert second["updated"] is None


def test_a_narrow_terminal_shows_fewer_columns_and_says_so(store, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "66")
    text = said(capsys, "list", store.folder)
    assert max(map(len, text.splitlines()[1:])) <= 66
    assert "(not shown: test_accuracy, dev_accuracy; --json tells all)" in text


def test_addresses_that_begin_alike_are_shown_longer(tmp_path, capsys, monkeypatch) -> None:
    store = filled(tmp_path)
    monkeypatch.setattr("landscape.cli.runs.listing._SHORT", 0)
    starts = [line.split()[0] for line in said(capsys, "list", store.folder).splitlines()[-6:]]
    assert len(set(starts)) == 6
    assert all(sum(a.startswith(s) for a in store.addresses()) == 1 for s in starts)


def test_damaged_and_unfinished_runs_are_told_and_left_out(store, capsys) -> None:
    harm(store.path(config()) / "result.json")
    store.begin(config(seed=9))
    text = said(capsys, "list", store.folder)
    assert text.startswith("5 runs")
    assert f"left out: expected {store.path(config())}" in text
    assert "1 begun and not finished" in text
    found = result(capsys, "list", store.folder)
    assert len(found["runs"]) == 5
    assert "damaged" in found["left_out"][0]
    assert found["unfinished"] == [config(seed=9).address]


def test_show_tells_everything_of_a_run(store, capsys) -> None:
    text = said(capsys, "show", store.folder, config().address[:6])
    for words in ("ratio                0.001", "accuracy 0.8", "8 of 10 test examples",
                  "train_loss: 1 █▇▆▅▄▃▂▁ 0.3 (8 steps)", "measured: sharpness-0a1b2c3d",
                  "value_after          1.5", "provenance", "step 4",
                  "schedule             none"):  # fmt: skip
        assert words in text
    assert result(capsys, "show", store.folder, config().address) == store.row(config())


def test_curves_are_means_over_stretches_with_a_block_each() -> None:
    assert means([float(i) for i in range(10)], 5) == [0.5, 2.5, 4.5, 6.5, 8.5]
    assert means([1.0, None, 2.0], 9) == pytest.approx([1.0, float("nan"), 2.0], nan_ok=True)
    assert means([], 5) == []
    nan = float("nan")
    assert format_curve([0.0, 3.5, 7.0, 99.0, -99.0, nan], 0.0, 7.0) == "▁▅██▁×"
    assert format_curve([2.0, 2.0], 2.0, 2.0) == "▁▁"


def test_two_runs_are_compared_over_their_examples(store, capsys) -> None:
    """11111111|00 against 1111|000000: four right in the first alone, so p = 2 / 2^4."""
    addresses = [config().address, config(method="structured", options=ROW).address]
    found = result(capsys, "compare", store.folder, *addresses)
    over = found["over_examples"]
    assert (over["first"], over["second"], over["mean"], over["p"]) == (4, 0, -0.4, 0.125)
    assert found["differs"] == {"method": [["random"], ["structured"]],
                                "options.granularity": [["none"], ["row"]]}  # fmt: skip
    assert found["values"]["test_accuracy"] == [0.8, 0.4]
    text = said(capsys, "compare", store.folder, *addresses)
    assert "method: random | structured" in text
    assert "4 right in the first alone, 0 in the second alone, p 0.125, over 10 examples" in text
    assert text.count("█▇▆▅▄▃▂▁") == 2


def test_two_groups_are_compared_over_pairs_of_runs(store, capsys) -> None:
    """Differences of -0.4, -0.1 and -0.3: their mean, and t = 4.303 times 0.15275 / sqrt(3)."""
    found = result(capsys, "compare", store.folder, "method=random", "method=structured")
    assert found["paired_by"] == ["seed"]
    assert [pair["values"] for pair in found["pairs"]] == [[0.8, 0.4], [0.7, 0.6], [0.7, 0.4]]
    over = found["over_pairs"]
    assert over["mean"] == pytest.approx(-0.8 / 3)
    assert over["high"] - over["mean"] == pytest.approx(4.302653 * 0.1527525 / 3**0.5, rel=1e-5)
    assert [pair["over_examples"]["first"] for pair in found["pairs"]] == [4, 1, 3]
    text = said(capsys, "compare", store.folder, "method=random", "method=structured")
    assert "over 3 pairs of runs" in text


def test_runs_without_a_partner_or_a_number_are_told(store, capsys) -> None:
    store.write(config(seed=8), outcome())
    lacking = outcome(test={"accuracy": None, "n": 10}, diverged=True)
    for method in ("random", "structured"):
        options = ROW if method == "structured" else {}
        store.write(config(seed=9, method=method, options=options), lacking)
    text = said(capsys, "compare", store.folder, "method=random", "method=structured")
    assert "without a partner: 1 of the first, 0 of the second" in text
    assert "1 pair without accuracy on one side" in text
    assert "over 3 pairs of runs" in text


def test_tidy_says_what_it_would_remove_removes_it_when_told_and_never_a_row(store, capsys) -> None:
    keep = {p: p.read_bytes() for p in store.folder.rglob("*") if p.is_file()}
    one, two = store.path(config()), store.path(config(seed=77))
    store.begin(config(seed=77))
    gone = [one / "training" / "checkpoint.safetensors", one / "measured" / ".a.during.abcd1234"]
    kept = [one / "training" / "theta.safetensors", one / "training" / "result.json",
            one / "training-again" / "checkpoint.safetensors",  # a measurement goes on from it
            two / "training" / "checkpoint.safetensors"]  # fmt: skip
    for path in (*gone, *kept):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 10)
    harm(store.path(config(seed=1)) / "result.json")
    store.set_aside()
    keep = {p: b for p, b in keep.items() if config(seed=1).address not in str(p)}
    text = said(capsys, "tidy", store.folder)
    for words in ("checkpoints: 1, 10 bytes", "half-written files: 1, 10 bytes",
                  "damaged runs: 1, ", "--yes removes"):  # fmt: skip
        assert words in text
    assert all(path.exists() for path in gone)
    found = result(capsys, "tidy", store.folder, "--yes")
    assert found["removed"]
    assert {p["path"] for p in found["found"]} == {
        *map(str, gone), str(store.folder / "damaged" / f"{config(seed=1).address}-0")
    }  # fmt: skip
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in kept)
    assert {p: p.read_bytes() for p in keep} == keep
    assert said(capsys, "tidy", store.folder) == "nothing to remove\n"


def test_memory_is_shown_as_a_size_and_one_run_is_no_runs(tmp_path, capsys) -> None:
    for name, value in (("ten", 596_602_880), ("big", 5_010_000_000)):
        store = ls.RunStore(tmp_path / name)
        store.create()
        store.write(config(), outcome(peak_memory=value))
        words = {"ten": "597 MB", "big": "5.01 GB"}[name]
        text = said(capsys, "list", store.folder)
        assert text.startswith("1 run in ")
        assert f"peak_memory {words}" in text
        address = config().address
        assert words in said(capsys, "show", store.folder, address)
        assert result(capsys, "list", store.folder)["runs"][0]["peak_memory"] == value


def test_tidy_removes_a_pack_whose_runs_another_executor_has_finished_and_no_other(
    store, capsys
) -> None:
    for name, seeds in (("done", (0, 1)), ("begun", (0, 77))):
        runs = [config(seed=seed).as_dict() for seed in seeds]
        write_json(store.folder / "packs" / name / "pack.json", {"runs": runs})
        (store.folder / "packs" / name / "pack.safetensors").write_bytes(b"x" * 10)
    assert "packs: 1, " in said(capsys, "tidy", store.folder)
    found = result(capsys, "tidy", store.folder, "--yes")["found"]
    assert [one["path"] for one in found] == [str(store.folder / "packs" / "done")]
    assert [p.name for p in (store.folder / "packs").iterdir()] == ["begun"]


def test_tidy_names_the_lock_of_a_process_that_is_gone_and_waits_for_one_that_is_not(
    store, capsys
) -> None:
    lock = store.folder / "store.lock"
    lock.write_text(json.dumps({"process": 1, "host": "a", "since": "2026"}))
    assert "locks: 1, " in said(capsys, "tidy", store.folder)
    said(capsys, "tidy", store.folder, "--yes")
    assert said(capsys, "tidy", store.folder) == "nothing to remove\n"
    with store.locked():
        assert said(capsys, "tidy", store.folder) == "nothing to remove\n"
        assert "got one: process" in said(capsys, "tidy", store.folder, "--yes", code=MISTAKE)


def test_a_link_out_of_the_store_is_removed_and_what_it_leads_to_stays(
    store, tmp_path, capsys
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "checkpoint.safetensors").write_text("mine")
    (store.folder / "damaged").mkdir()
    for place in (store.folder / "damaged" / "link", store.path(config()) / "training"):
        place.symlink_to(tmp_path / "mine")
    assert "damaged runs: 1" in said(capsys, "tidy", store.folder, "--yes")
    assert (tmp_path / "mine" / "checkpoint.safetensors").read_text() == "mine"


def test_rows_are_exported_and_imported_into_a_new_folder(store, tmp_path, capsys) -> None:
    file = tmp_path / "rows.jsonl.gz"
    found = result(capsys, "export", store.folder, file, "--where", "method=random")
    assert (found["runs"], found["output"]) == (3, str(file))
    assert len(result(capsys, "list", file)["runs"]) == 3
    other = tmp_path / "other"
    assert "3 runs added, 0 were there" in said(capsys, "import", other, file)
    assert "3 runs added, 3 were there" in said(capsys, "import", other, store.folder)
    assert ls.runs(other).equals(ls.runs(store.folder))
    changed = ls.RunStore(tmp_path / "changed")
    changed.write(config(), outcome("0000000000"))
    text = said(capsys, "import", other, changed.folder)
    assert f"1 were there with another outcome, which stays ({config().address})" in text


MISTAKES = {
    "list nowhere": ("nothing there",),
    "list STORE --where metod=random": ("'metod'", "did you mean method?"),
    "list STORE --where method": ("column=value",),
    "list STORE --sort test_acuracy": ("did you mean test_accuracy?",),
    "list STORE --sort test": ("did you mean test_loss or test_accuracy?",),
    "list STORE --where seed=x": ("a number for seed", "'x'"),
    "list ALTERED": ("line 1 of", "altered"),
    "show STORE 0000": ("the address of a finished run", "'0000'"),
    "show STORE ADDRESSx": ("did you mean ADDRESS?",),
    "compare STORE ADDRESS method=randm": ("got none", "landscape runs list"),
    "compare STORE method=random zzz": ("the address of a finished run",),
    "tidy nowhere": ("the folder of a sweep",),
    "tidy FILE": ("the folder of a sweep",),
    "import FILE STORE": ("a folder", "the file"),
    "import OUT nowhere": ("nothing there",),
    "export STORE STORE": ("a file", "the folder"),
    "export STORE OUT --where sed=1": ("did you mean seed?",),
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_sentence_and_writes_nothing(line, store, tmp_path, capsys) -> None:
    file, altered = tmp_path / "rows.jsonl", tmp_path / "altered.jsonl"
    write_rows(file, store.rows())
    altered.write_text(file.read_text().replace("1.25", "1.26"))
    places = {"STORE": store.folder, "FILE": file, "ALTERED": altered, "OUT": tmp_path / "out",
              "ADDRESS": config().address}  # fmt: skip

    def told(text: str) -> str:
        for name, place in places.items():
            text = text.replace(name, str(place))
        return text

    before = sorted(tmp_path.rglob("*"))
    sentence = said(capsys, *told(line).split(), code=MISTAKE)
    assert THREE_PARTS.search(sentence), sentence
    assert sentence.count("\n") == 1
    assert all(told(words) in sentence for words in MISTAKES[line]), sentence
    assert sorted(tmp_path.rglob("*")) == before
