"""Which task a command is about: one that is known by name, or data of one's own."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscape import checks
from landscape.cli.arguments import number, seed, whole
from landscape.errors import UserError
from landscape.tasks import DATASETS, REVIEWS

if TYPE_CHECKING:
    from landscape.tasks import Task

#: what only data of one's own takes: option -> argument of `landscape.task_from`
OWN = ("text", "label", "answer", "separator", "prompt", "verbaliser", "regression", "dev",
        "test", "group", "metric", "max_new_tokens")  # fmt: skip
_SIZES = ("num_train", "num_dev", "num_test", "seed", "loss")


def task_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that say which task a command is about."""
    group = parser.add_argument_group("task: known by name, or your own data")
    what = group.add_mutually_exclusive_group()
    what.add_argument("--task", type=_task, help=f"a task that `landscape tasks` lists ({REVIEWS})")
    what.add_argument(
        "--data", type=data, metavar="PATH", help="your own: a csv, tsv, jsonl, json or parquet "
        "file, or a folder of images with a folder for every class",
    )  # fmt: skip
    group.add_argument(
        "--source", metavar="FOLDER", help="folder of the --task's files, instead of the hub"
    )
    size = whole(least=1)
    for split, usual in (("train", "1000"), ("dev", "500"), ("test", "1000")):
        group.add_argument(
            f"--num-{split}", type=size, help=f"{split} examples (of a --task mostly {usual}; "
            "of --data all)",
        )  # fmt: skip
    group.add_argument(
        "--seed", type=seed, default=0, help="seed of the examples, their order, dropout (0)"
    )
    group.add_argument(
        "--head", action="store_true",
        help="load the model with a classifier, which sees the bare text without a prompt "
        "(packaged encoders always have one, and any model with --num-labels)",
    )  # fmt: skip
    group.add_argument(
        "--loss", choices=("classification", "language modelling"),
        help="what a language model is trained with (the task's)",
    )  # fmt: skip
    own_arguments(parser)
    own = parser.add_argument_group("splits and metric of --data")
    for split in ("dev", "test"):
        own.add_argument(
            f"--{split}", type=share, metavar="SHARE|FILE",
            help="its share of the rows, or a file of its own (0.1)",
        )  # fmt: skip
    own.add_argument(
        "--group", metavar="COLUMN", help="rows with one value there stay in one split"
    )
    own.add_argument(
        "--metric", metavar="NAME", help="what to judge by, such as macro_f1, or f1 of the second "
        "of two labels (accuracy; of answers exact_match)",
    )  # fmt: skip


def own_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that say how a row of one's own data becomes an example."""
    own = parser.add_argument_group("how a row of --data becomes an example")
    own.add_argument(
        "--text", nargs="+", metavar="COLUMN", help="column of the text, or of both texts of a pair"
    )
    own.add_argument("--label", metavar="COLUMN", help="column of the class")
    own.add_argument(
        "--answer", metavar="COLUMN", help="instead of --label: column of the text to generate"
    )
    own.add_argument(
        "--separator", metavar="TEXT", help="what stands between several answers in one text"
    )
    prompt_arguments(own)
    own.add_argument(
        "--regression", action="store_true", help="the label is a number that a head predicts"
    )
    own.add_argument(
        "--max-new-tokens", type=whole(least=1), help="tokens of an answer at most (50)"
    )


def prompt_arguments(parser: argparse._ActionsContainer) -> None:
    """Declare the arguments that say what a language model is shown of a row."""
    parser.add_argument(
        "--prompt", type=_written, metavar="TEXT",
        help="what a language model is shown, columns in braces, \\n for a new line: "
        "'{text}\\nIs it good?' (the text, and the label's column in a new line)",
    )  # fmt: skip
    parser.add_argument(
        "--verbaliser", nargs="+", type=_word, metavar="LABEL=WORD",
        help="the word that follows the prompt for a label (the label)",
    )  # fmt: skip


def asked_task(chosen: argparse.Namespace, *, head: bool) -> dict[str, Any]:
    """Return what a command line asks for as a task, as JSON: what `open_task` takes.

    Args:
        chosen: the arguments of `task_arguments`.
        head: whether the model has a head.

    Raises:
        UserError: arguments of one's own data without any, or of a known task with one's own; a
            head for a task that has none.
    """
    asked = {name: getattr(chosen, name) for name in _SIZES if getattr(chosen, name) is not None}
    own = {name: value for name in OWN if (value := getattr(chosen, name, None))}
    asked |= {"head": True} if head else {}
    if chosen.data is None:
        refuse_without_data(own)
        source = {} if chosen.source is None else {"source": chosen.source}
        name = chosen.task or REVIEWS
        if chosen.head and name in DATASETS and DATASETS[name].heads is None:
            raise UserError(
                f"expected a task with bare texts for --head, got {name}, which has prompts alone; "
                "leave --head out, or give --num-labels for a classifier of its prompts"
            )
        return {"task": name, **source, **asked}
    if chosen.source is not None:
        raise UserError(
            f"expected --source with --task, got it with --data {chosen.data}; leave it out"
        )
    return {"data": chosen.data, **own, **asked}


def refuse_without_data(own: Mapping[str, object]) -> None:
    """Refuse arguments of one's own data where there is none.

    Raises:
        UserError: there are some.
    """
    if own:
        name = next(iter(own)).replace("_", "-")
        raise UserError(
            f"expected --data FILE with --{name}, which is about its rows, got none; give one, or "
            f"leave --{name} out"
        )


def open_task(asked: Mapping[str, Any]) -> Task:
    """Load the task that `asked_task` describes.

    Raises:
        UserError: as `landscape.load_task` and `landscape.task_from`.
    """
    import landscape as ls

    given = dict(asked)
    known = {*_SIZES, "head", *(("task", "source") if "task" in given else ("data", *OWN))}
    if not given.keys() <= known or not {"task", "data"} & given.keys():
        raise UserError(
            f"expected a task as landscape writes it, got one with {', '.join(given) or 'nothing'};"
            " give --task or --data"
        )
    head = given.pop("head", False)
    if "task" in given:
        name = given.pop("task")
        checks.choice("--task", name, (REVIEWS, *DATASETS))
        has = name == REVIEWS or DATASETS[name].heads is not None
        return ls.load_task(name, head=True if head and has else None, **given)
    words, most = given.pop("verbaliser", None), given.pop("max_new_tokens", None)
    if isinstance(given.get("text"), list):
        given["text"] = tuple(given["text"])
    return ls.task_from(
        given.pop("data"), head=head, verbaliser=None if words is None else dict(words),
        generation=None if most is None else ls.Generation(max_new_tokens=most), **given,
    )  # fmt: skip


def known_task(text: str, instead: str = "; `landscape.finetune` trains on a file of yours") -> str:
    """Read the name of a task, and offer the nearest for one that is none.

    Args:
        text: the name.
        instead: what is there for data of one's own.
    """
    known = (REVIEWS, *DATASETS)
    if text not in known:
        near = get_close_matches(text.lower().replace("-", "_"), known, n=3, cutoff=0.5)
        raise argparse.ArgumentTypeError(
            f"expected a task that `landscape tasks` lists, got {text!r}; "
            + (f"write {' or '.join(near)}" if near
               else f"choose one, such as {REVIEWS}{instead}")
        )  # fmt: skip
    return text


def _task(text: str) -> str:
    """Read the name of a task where --data may be given in its place."""
    return known_task(text, ", or give a file with --data")


def task_folder(text: str) -> tuple[str, str]:
    """Read where a task's files lie."""
    task, given, folder = text.partition("=")
    if not given or not Path(folder).expanduser().is_dir():
        raise argparse.ArgumentTypeError(
            f"expected TASK=FOLDER with a folder that is there, got {text!r}; check the path"
        )
    return known_task(task), folder


def data(text: str) -> str:
    """Read the path of a file, or of a folder of images."""
    path = Path(text).expanduser()
    if not path.exists() or not text:
        raise argparse.ArgumentTypeError(
            f"expected a file, or a folder of images, at {text}, got none; check the path"
        )
    return str(path)


def share(text: str) -> float | str:
    """Read a share of rows, or the path of a file of its own."""
    try:
        float(text)
    except ValueError:
        return data(text)
    return number(above=0, below=1)(text)


def _written(text: str) -> str:
    """Read a prompt, in which a shell's quotes have left \\n and \\t as they were typed."""
    return text.replace("\\n", "\n").replace("\\t", "\t")


def _word(text: str) -> list[str]:
    label, given, word = text.partition("=")
    if not given or not label.strip() or not word.strip():
        raise argparse.ArgumentTypeError(
            f"expected LABEL=WORD, such as good=great, got {text!r}; write one for every label"
        )
    return [label, word]
