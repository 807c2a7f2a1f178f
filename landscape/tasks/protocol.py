"""The settings of fine-tuning that the papers' own code uses for a task."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

from landscape import checks
from landscape.tasks.sets import DATASETS

Paper: TypeAlias = Literal["random masking", "id3"]

_BATCH = 8
_IMAGES = ("cifar10", "gtsrb", "mnist", "svhn", "resisc45")
_GLUE = {
    "rte": (30, 100), "mrpc": (30, 100), "cola": (20, 200), "stsb": (15, 200), "sst2": (7, 500),
    "qnli": (7, 1000), "qqp": (3, 4000), "mnli": (3, 4000), "mnli_mm": (3, 4000),
}  # fmt: skip
"""Paper 2's epochs, and steps between evaluations."""
_MATHEMATICS = ("gsm8k", "svamp", "multiarith", "addsub", "singleeq", "aqua")


def reference_settings(name: str, paper: Paper = "random masking") -> dict[str, Any]:
    """Return what `landscape.finetune` is given to train as a paper's own code does on a task.

        ls.finetune(model, tokenizer, task, lr=1e-3, **ls.reference_settings("cb"))

    "random masking" (Xu & Zhang 2024): batches of 8 examples, made of smaller ones where texts are
    long, each weighing the same; 5 epochs; the checkpoint of the lowest dev loss; for images 2,000
    steps of 128 (give epochs), weight decay, a cosine. "id3" (Agarwal et
    al. 2024): batches of 16, or of 4 for generation, more epochs, texts of up to 256 tokens (384
    for named entities), the checkpoint of the best dev metric. The learning rate is chosen on dev
    and so is none of them. For OPT the code of the first gives bos=0 as well.

    Args:
        name: of a data set, as `load_task` knows it.
        paper: whose.

    Returns:
        Keyword arguments of `finetune`.

    Raises:
        UserError: an unknown name or paper, or a data set that the paper does not use.

    >>> reference_settings("sst2")["batch_size"], reference_settings("sst2", "id3")["epochs"]
    (8, 7)
    """
    dataset = DATASETS[checks.choice("name", name, DATASETS)]
    if checks.choice("paper", paper, get_args(Paper)) == "random masking":
        if name in _IMAGES:
            return {
                "batch_size": 128, "weight_decay": 0.1, "lr_schedule": "cosine", "warmup": 200,
            }  # fmt: skip
        if dataset.prompts is None or name in _MATHEMATICS:
            known = name in (*_GLUE, *_MATHEMATICS, "conll2003")
            do = 'give paper="id3"' if known else "no paper uses it: choose its settings yourself"
            checks.refuse("name", "a task of Xu & Zhang 2024", name, do)
        size = dataset.micro_batch
        settings: dict[str, Any] = {"epochs": 5, "batch_size": size, "select_by": "loss"}
        if size < _BATCH:
            settings |= {"accumulate": _BATCH // size, "loss_average": "batches"}
        return settings
    if name in _GLUE:
        epochs, every = _GLUE[name]
        settings = {"epochs": epochs, "evaluate_every": every, "max_length": 256}
        return settings | {"batch_size": 16, "select_by": "metric"}
    if name == "conll2003":
        settings = {"evaluate_every": 300, "max_length": 384, "batch_size": 16}
        return settings | {"select_by": "metric"}
    if name not in _MATHEMATICS:
        checks.refuse("name", "a task of Agarwal et al. 2024", name, "leave paper out")
    settings = {"epochs": 3, "evaluate_every": 80, "batch_size": 4}
    return settings | {"select_by": "metric"}
