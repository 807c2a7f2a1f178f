"""Data of one's own as a task: what a model is shown, and who is in which split."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from samples import review_file

import landscape as ls
from landscape.tasks.own.recipe import Recipe
from landscape.tasks.own.rows import read_own
from landscape.tasks.own.template import fill
from landscape.tasks.sets.reviews import recipe
from landscape.tasks.task import normal

pytestmark = pytest.mark.filterwarnings("ignore:expected (every label|splits)")

TICKETS = """id,subject,body,team,customer
1,Money,"I paid twice, again",billing,ann
2,Login,"Cannot
log in",technical,bob
3,Hours,When do you open?,other,cat
4,Card,Refund me,billing,ann
5,Crash,It crashed,technical,dan
6,Address,Where are you?,other,eve
"""


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    path = tmp_path / "tickets.csv"
    path.write_text(TICKETS, encoding="utf-8")
    return path


def every(task: ls.Task) -> list:
    return sorted((*task.train, *task.dev, *task.test), key=lambda e: e.shown)


def test_three_classes_of_tickets_are_a_task_in_one_call(tickets) -> None:
    task = ls.task_from(tickets, text="body", label="team", dev=1 / 6, test=1 / 6)
    assert task.name == "tickets"
    assert (task.metric, task.loss, task.num_labels) == ("accuracy", "classification", 3)
    assert (len(task.train), len(task.dev), len(task.test)) == (4, 1, 1)
    words = (" billing", " other", " technical")
    assert every(task)[0] == ls.Example("Cannot\nlog in\nteam:", words, 2)
    assert every(task)[1] == ls.Example("I paid twice, again\nteam:", words, 0)


def test_a_prompt_and_a_verbaliser_say_what_a_model_is_shown(tickets) -> None:
    task = ls.task_from(
        tickets, label="team", dev=1 / 6, test=1 / 6, group="customer",
        prompt="{subject} {{{id}}}\n{body}\nWho answers? ",
        verbaliser={"technical": "engineers", "billing": " accounts", "other": "\nanybody"},
    )  # fmt: skip
    found = {e.group + str(e.label): e for e in every(task)}
    assert found["bob2"] == ls.Example(
        "Login {2}\nCannot\nlog in\nWho answers?",
        (" accounts", "\nanybody", " engineers"),
        2,
        "bob",
    )


@pytest.mark.parametrize(("prompt", "words"), [("{body}: ", (" a", " b", " c")),
                                               ("{body}\n", ("a", "b", "c"))])  # fmt: skip
def test_a_word_follows_after_one_white_space(prompt, words, tickets) -> None:
    given = {"billing": "a", "other": "b", "technical": "c"}
    task = ls.task_from(
        tickets, label="team", prompt=prompt, verbaliser=given, dev=1 / 6, test=1 / 6
    )
    example = every(task)[0]
    assert example.candidates == words
    assert example.prompt == "Cannot\nlog in" + prompt.removeprefix("{body}").rstrip(" ")


def test_a_head_reads_the_bare_text_or_a_pair(tickets) -> None:
    splits = {"dev": 1 / 6, "test": 1 / 6}
    one = ls.task_from(tickets, text="body", label="team", head=True, **splits)
    classes = ("billing", "other", "technical")
    assert every(one)[0] == ls.TextExample(("Cannot\nlog in",), 2, classes)
    two = ls.task_from(tickets, text=("subject", "body"), label="team", head=True, **splits)
    assert ls.TextExample(("Login", "Cannot\nlog in"), 2, classes) in every(two)


def test_a_number_is_a_regression_where_it_is_asked_for() -> None:
    rows = [{"text": f"house {i}", "price": price} for i, price in enumerate(("1", "2.5", "-3e2"))]
    task = ls.task_from(rows, text="text", label="price", regression=True, dev=1 / 3, test=1 / 3)
    assert (task.loss, task.num_labels, task.metric) == ("regression", 1, "pearson_spearman")
    assert [e.label for e in every(task)] == [1.0, 2.5, -300.0]


def test_large_floating_numbers_keep_all_of_their_digits() -> None:
    prices = [1234567.0, 7654321.5, 20000000.0, 3.0, 0.25, 1e300]
    rows = [{"text": f"house {i}", "price": price} for i, price in enumerate(prices)]
    sizes = {"dev": 0.2, "test": 0.2}
    task = ls.task_from(rows, text="text", label="price", regression=True, **sizes)
    assert sorted(example.label for example in every(task)) == sorted(prices)
    written = [fill("{price}", read_own([row]).rows[0]) for row in rows]
    assert written == ["1234567", "7654321.5", "20000000", "3", "0.25", "1e+300"]


def test_answers_are_generated_and_several_may_be_right() -> None:
    rows = [{"q": f"Who is {i}?", "a": f"Ann {i}|Bob| "} for i in range(3)]
    task = ls.task_from(rows, text="q", answer="a", separator="|", dev=1 / 3, test=1 / 3)
    assert every(task)[1] == ls.Completion("Who is 1?\na:", ("Ann 1", "Bob"))
    assert (task.metric, task.loss) == ("exact_match", "language modelling")
    listed = [{"q": f"Who is {i}?", "a": [f"Ann {i}", "Bob"]} for i in range(3)]
    assert every(ls.task_from(listed, text="q", answer="a", dev=1 / 3, test=1 / 3)) == every(task)


@pytest.mark.parametrize(("labels", "order"), [
    (("10", "9", "-1"), ("-1", "9", "10")),
    (("b", "10", "a"), ("10", "a", "b")),
    ((True, False, True), ("false", "true")),
    ((2.0, 1, 1.5), ("1", "1.5", "2")),
])  # fmt: skip
def test_classes_are_sorted_numbers_by_their_value(labels, order) -> None:
    rows = [{"text": f"{i}", "label": label} for i, label in enumerate((*labels, *labels))]
    task = ls.task_from(rows, text="text", label="label", head=True, dev=1 / 6, test=1 / 6)
    assert task.train[0].classes == order


def test_a_file_of_its_own_is_the_whole_split_and_gives_no_class(tickets, tmp_path) -> None:
    other = tmp_path / "held_out.jsonl"
    other.write_text('{"body": "My bill?", "team": "billing"}\n', encoding="utf-8")
    task = ls.task_from(tickets, text="body", label="team", dev=1 / 3, test=other)
    assert (len(task.train), len(task.dev), len(task.test)) == (4, 2, 1)
    assert task.test[0].prompt == "My bill?\nteam:"
    assert task.source["files"] == {"train": "tickets.csv", "test": "held_out.jsonl"}
    assert len(set(task.source["sha256"].values())) == 2


@pytest.mark.parametrize("seed", range(5))
def test_groups_and_texts_that_are_the_same_are_in_one_split(seed) -> None:
    rows = [{"text": f"a  Film {i % 8}".upper() if i % 3 else f"a film {i % 8}",
             "label": i % 2, "who": f"u{i % 20}"} for i in range(40)]  # fmt: skip
    apart = ls.task_from(rows, text="text", label="label", dev=0.2, test=0.2, seed=seed)
    places: dict[str, set[str]] = {}
    for name in ("train", "dev", "test"):
        for example in apart.split(name):
            places.setdefault(str(normal(example.prompt)), set()).add(name)
    assert len(places) == 8
    assert all(len(names) == 1 for names in places.values())
    single = [row | {"text": f"film {i}"} for i, row in enumerate(rows)]
    grouped = ls.task_from(
        single, text="text", label="label", dev=0.2, test=0.2, seed=seed, group="who"
    )
    assert len(grouped.test) == len(grouped.dev) == 8
    assert not {e.group for e in grouped.test} & {e.group for e in grouped.train}


def test_sizes_take_the_first_of_each_split() -> None:
    rows = [{"text": f"film {i}", "label": i % 2} for i in range(50)]
    whole = ls.task_from(rows, text="text", label="label", seed=3)
    few = ls.task_from(rows, text="text", label="label", seed=3, num_train=7, num_test=2)
    assert few.train == whole.train[:7]
    assert (few.dev, few.test) == (whole.dev, whole.test[:2])


def test_a_class_that_train_lacks_is_warned_of() -> None:
    rows = [{"text": f"film {i}", "label": "rare" if i < 2 else i % 2} for i in range(8)]
    for seed in range(40):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            task = ls.task_from(rows, text="text", label="label", dev=0.25, test=0.25, seed=seed)
        lacks = all(example.answer != "rare" for example in task.train)
        told = [str(w.message) for w in caught if "in train, got none of rare" in str(w.message)]
        assert len(told) == lacks, seed


def test_a_recipe_read_from_json_makes_the_same_examples(tickets) -> None:
    task = ls.task_from(tickets, text="body", label="team", dev=1 / 6, test=1 / 6)
    rows = read_own(tickets)
    read = Recipe.of(task.source["recipe"], "a delta")
    assert sorted(read.examples(rows), key=lambda e: e.shown) == every(task)
    bare = [{k: v for k, v in row.values.items() if k != "team"} for row in rows.rows]
    for like in (task, task.source["recipe"]):
        shown = [e.shown for e in ls.examples_from(bare, like)]
        assert sorted(shown) == [e.shown for e in every(task)]


def test_rows_of_a_test_file_that_are_known_are_warned_of_with_their_lines(
    tickets, tmp_path
) -> None:
    other = tmp_path / "test.csv"
    other.write_text("body,team\nMy bill?,billing\nit  CRASHED,technical\n", encoding="utf-8")
    with pytest.warns(UserWarning, match=r"got 1 that are, the first test\.csv, line 3, which is "
                      r"tickets\.csv, line 7: "):  # fmt: skip
        ls.task_from(tickets, text="body", label="team", dev=1 / 3, test=other)


def test_new_reviews_are_read_as_those_of_the_packaged_task(tmp_path) -> None:
    source = review_file(tmp_path / "r.csv.bz2", films=12)
    for head in (False, True):
        task = ls.load_task("rotten_tomatoes", source=source, num_train=9, num_dev=3, num_test=9,
                            head=head)  # fmt: skip
        texts = {e.shown: e for e in task.train}
        rows = [row for row in read_own(source).rows if row.values["category"] != "plot"]
        made = [recipe(head=head).example(row, group=str(row.values["movie_name"]))
                for row in rows if row.values["text"]]  # fmt: skip
        assert {e.shown: e for e in made if e.shown in texts} == texts
