"""Every public function, given values of other kinds: refused in a sentence, never accepted."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import UserError

TOKENIZER = ls.tiny_tokenizer()
RIGHT = ls.Example("a film", (" terrible", " great"), 1)


def task() -> ls.Task:
    splits = [(ls.Example(f"film {i}", (" terrible", " great"), i % 2),) for i in range(3)]
    return ls.Task("toy", *splits)


def plain() -> nn.Module:
    return ls.tiny_model("opt", hidden_size=8, word_embed_proj_dim=8, ffn_dim=8)


#: what is never a value of a kind
WRONG: dict[str, tuple[object, ...]] = {
    "object": (None, "x", -1, math.nan, [], True),
    "whole": ("x", -1, math.nan, [], True, 1.5),
    "number": ("x", math.nan, [], True),
    "text": (-1, math.nan, [], True),
    "several": ("x", -1, math.nan, True),
    "path": (-1, math.nan, [], True, ""),
}
MATRIX = ls.MatrixOperator(torch.eye(3))


def masked() -> nn.Module:
    model = plain()
    ls.attach(model, ls.random_mask(model, count=3, sampling="exact"))
    return model


def change() -> ls.Delta:
    return ls.delta(masked())


def batches() -> list[dict[str, torch.Tensor]]:
    return ls.make_batches([RIGHT], TOKENIZER, 1)


def measured() -> dict[str, object]:
    return {"model": masked(), "batches": batches()}


def learned() -> dict[str, object]:
    return {"model": masked(), "tokenizer": TOKENIZER, "task": task()}


#: function, its other arguments, and the kind of each argument that is given wrongly
PUBLIC: list[tuple[str, Callable[[], dict[str, object]], str]] = [
    ("AdamW", lambda: {"parameters": [nn.Parameter(torch.zeros(3))], "lr": 1},
     "parameters:several lr:number eps:number weight_decay:number betas:whole"),
    ("Example", lambda: {"prompt": "a", "candidates": ("b", "c"), "label": 0},
     "prompt:text candidates:several label:whole group:text also_right:several"),
    ("Task", lambda: {"name": "t", "train": (RIGHT,), "dev": (RIGHT,), "test": (RIGHT,)},
     "name:text metric:text loss:text train:object dev:several"),
    ("Schedule", lambda: {"kind": "static", "count": 3},
     "kind:text score:text steps:whole every:whole drop:number count:whole scope:text"),
    ("random_mask", lambda: {"model": plain(), "count": 3},
     "model:object count:whole seed:whole sampling:text"),
    ("random_mask", lambda: {"model": plain()}, "ratio:number density:number"),
    ("structured_mask", lambda: {"model": plain(), "count": 3},
     "model:object count:whole seed:whole granularity:text block:object"),
    ("select_mask", lambda: {"model": plain(), "score": "magnitude", "count": 3},
     "model:object score:text count:whole granularity:text max_live:whole scope:text"),
    ("attach", lambda: {"model": plain(), "mask": None}, "model:object mask:object"),
    ("detach", dict, "model:object"),
    ("merge", dict, "model:object"),
    ("trainable", dict, "model:object"),
    ("delta", dict, "model:object"),
    ("distance", lambda: {"model": masked()}, "model:object mask:several"),
    ("displacement", dict, "model:object"),
    ("apply_delta", lambda: {"model": plain(), "change": None}, "model:object change:object"),
    ("overlap", lambda: {"first": change(), "second": change()}, "first:object second:object"),
    ("save_delta", lambda: {"model": masked(), "path": "x"},
     "model:object path:path about:several"),
    ("load_delta", lambda: {"model": plain(), "path": "x"}, "model:object path:path"),
    ("read_delta", lambda: {"model": plain(), "path": "x"}, "model:object path:path"),
    ("save_peft", lambda: {"model": masked(), "folder": "x", "kind": "shira"},
     "model:object folder:path kind:text"),
    ("export_delta", lambda: {"model": masked(), "output": "x", "format": "vllm"},
     "model:object output:path format:text restore:path dtype:whole tokenizer:whole"),
    ("load_peft", lambda: {"model": plain(), "folder": "x"}, "model:object folder:path"),
    ("with_heads", lambda: {"mask": None, "model": plain(), "heads": "lm_head"}, "mask:object"),
    ("load_task", lambda: {"name": "sst2"},
     "name:text num_train:whole num_dev:whole num_test:whole seed:whole source:path"),
    ("task_from",
     lambda: {"data": [{"a": i, "b": i % 2} for i in range(9)], "text": "a", "label": "b"},
     "data:object text:text label:text answer:text prompt:text verbaliser:text separator:text "
     "dev:object test:object group:text seed:whole num_train:whole num_dev:whole num_test:whole "
     "metric:text loss:text generation:text name:text"),
    ("examples_from", lambda: {"data": [{"a": 1}], "like": {}}, "data:object like:object"),
    ("predict", lambda: {"model": plain(), "tokenizer": TOKENIZER, "examples": [RIGHT]},
     "model:object tokenizer:object examples:several batch_size:whole max_length:whole "
     "bos:whole generation:text"),
    ("load_model", lambda: {"name": "./nowhere"},
     "name:path dtype:object device:text revision:text num_labels:whole head:text seed:whole "
     "classes:several"),
    ("zero_shot_classifier",
     lambda: {"model": ls.tiny_model("clip"), "tokenizer": TOKENIZER, "classes": ["a", "b"]},
     "model:object tokenizer:object classes:several templates:several"),
    ("tiny_model", lambda: {"architecture": "opt"}, "architecture:text seed:whole"),
    ("make_batches", lambda: {"examples": [RIGHT], "tokenizer": TOKENIZER, "batch_size": 1},
     "examples:several tokenizer:object batch_size:whole max_length:whole bos:whole"),
    ("evaluate", learned, "model:object tokenizer:object task:object split:text batch_size:whole "
     "max_length:whole bos:whole"),
    ("finetune", lambda: learned() | {"lr": 1.0},
     "model:object tokenizer:object task:object lr:number epochs:whole batch_size:whole "
     "seed:whole weight_decay:number betas:object eps:number max_gradient_norm:number "
     "evaluations_per_epoch:whole select_by:text max_length:whole folder:path "
     "checkpoint_every:whole probes:several optimizer:text momentum:number lr_schedule:text "
     "warmup:number accumulate:whole autocast:text patience:whole device:text"),
    ("Training", lambda: learned() | {"lr": 1.0},
     "model:object tokenizer:object task:object lr:number epochs:whole optimizer:text "
     "folder:path checkpoint_every:whole probes:several device:text"),
    ("suggest_lr", learned, "model:object tokenizer:object task:object optimizer:text "
     "examples:whole batch_size:whole"),
    ("fit_head", lambda: {"model": ls.tiny_model("bert"), "batches": batches()},
     "model:object batches:several penalty:number"),
    ("task_loss", lambda: {"model": plain(), "batch": batches()[0]}, "model:object batch:object"),
    ("task_split", lambda: {"model": plain(), "batch": batches()[0]}, "model:object batch:object"),
    ("lanczos", lambda: {"operator": MATRIX},
     "operator:object k:whole which:text tol:number max_matvecs:whole seed:whole block:whole "
     "max_basis:whole v0:several"),
    ("power_iteration", lambda: {"operator": MATRIX},
     "operator:object tol:number max_matvecs:whole seed:whole v0:several"),
    ("spectral_density", lambda: {"operator": MATRIX},
     "operator:object num_vectors:whole steps:whole seed:whole known:several"),
    ("trace", lambda: {"operator": MATRIX}, "operator:object max_matvecs:whole seed:whole"),
    ("exact_matrix", lambda: {"operator": MATRIX}, "operator:object block:whole"),
    ("exact_spectrum", lambda: {"operator": MATRIX}, "operator:object block:whole"),
    ("norm_bound", lambda: {"operator": MATRIX},
     "operator:object steps:whole failure:number seed:whole"),
    ("health_check", lambda: {"operator": MATRIX}, "operator:object seed:whole tol:number"),
    ("MatrixOperator", dict, "matrix:object"),
    ("HessianOperator", measured, "model:object batches:several mode:text parameters:several"),
    ("GGNOperator", measured, "model:object batches:several parameters:several"),
    ("FisherOperator", measured, "model:object batches:several parameters:several"),
    ("module_blocks", lambda: {"operator": MATRIX}, "operator:object modules:text"),
    ("micro_batches", lambda: {"batch": batches()[0], "rows": 1}, "rows:whole"),
    ("random_directions", lambda: {"model": masked()}, "model:object count:whole seed:whole"),
    ("surface_1d", lambda: measured() | {"direction": torch.ones(3), "span": 1.0, "points": 3},
     "model:object direction:several span:number points:whole folder:path progress:several"),
    ("surface_2d", lambda: measured() | {"directions": torch.eye(3)[:, :2], "span": 1.0},
     "model:object directions:several span:number points:whole folder:path progress:several"),
    ("interpolate", lambda: measured() | {"start": "x", "end": "y"}, "model:object points:whole"),
    ("SharpnessProbe", lambda: {"batches": batches()},
     "batches:several every:whole tol:number max_matvecs:whole time_share:number seed:whole"),
    ("Trajectory", dict, "every:whole"),
    ("RunStore", dict, "folder:path"),
    ("runs", dict, "source:path"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "others", "kinds"), PUBLIC, ids=[one[0] for one in PUBLIC])
@pytest.mark.filterwarnings("ignore:expected splits")
def test_a_public_function_refuses_every_value_of_another_kind(
    name: str, others: Callable[[], dict[str, object]], kinds: str, tmp_path, monkeypatch
) -> None:
    """Neither a raw exception nor a silent result."""
    monkeypatch.chdir(tmp_path)
    arguments, wrong = others(), []
    for argument, kind in (one.split(":") for one in kinds.split()):
        for value in WRONG[kind]:
            try:
                getattr(ls, name)(**{**arguments, argument: value})
            except UserError:
                continue
            except Exception as error:
                wrong.append(f"{argument}={value!r}: {error!r}")
            else:
                wrong.append(f"{argument}={value!r}: accepted")
    assert not wrong, "\n".join(wrong)
    assert not list(tmp_path.iterdir())
