"""``landscape delta info | overlap | add | subtract | scale | merge | export``."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from landscape.cli.arguments import file, number, output_file, output_folder, whole
from landscape.cli.parser import Commands, Parser
from landscape.cli.shared import MODEL, Outcome, json_argument

if TYPE_CHECKING:
    from torch import nn

#: as the library has them, which is not imported before a command needs torch
_FORMATS = ("shira", "super-tuning", "merged", "vllm", "trl")
_DTYPES = ("float32", "bfloat16", "float16", "float64")


def add(commands: Commands) -> None:
    """Declare the commands."""
    delta = commands.add_parser("delta", help="add, scale, compare, merge and export delta files")
    kinds = delta.add_subparsers(required=True, metavar="what")
    _declare(kinds, "info", _info, 1, "tell the mask of a delta, and how far it moved")
    _declare(kinds, "overlap", _overlap, 2, "count the weights that two deltas both change")
    _declare(kinds, "add", _add, 2, "write the sum of two deltas", "delta file to write")
    _declare(
        kinds,
        "subtract",
        _subtract,
        2,
        "write the first delta minus the second",
        "delta file to write",
    )
    scale = _declare(
        kinds, "scale", _scale, 1, "write a multiple of a delta", "delta file to write"
    )
    scale.add_argument("--factor", type=number(), required=True, help="the multiple")
    plain = "write a plain model with the delta in its weights, as export --format merged"
    merge = _declare(kinds, "merge", _export, 1, plain, "folder to write")
    merge.set_defaults(format="merged", restore=None, dtype=None)
    export = _declare(
        kinds,
        "export",
        _export,
        1,
        "write a delta for peft, for any software, or for a running server",
    )
    export.add_argument(
        "--format", choices=_FORMATS, required=True,
        help="an adapter of peft (shira, super-tuning), a plain model (merged), or a patch of the "
        "checkpoint that a server has loaded (vllm, trl)",
    )  # fmt: skip
    export.add_argument(
        "--output", required=True, metavar="PATH", help="file (vllm, trl) or folder to write"
    )
    export.add_argument(
        "--restore",
        metavar="FILE",
        help="file for the patch that restores the original (OUTPUT.restore.*)",
    )
    export.add_argument("--dtype", choices=_DTYPES, help="type of the checkpoint (the base's own)")


def _declare(
    kinds: Commands, name: str, command: Callable[[argparse.Namespace], Outcome], files: int,
    purpose: str, output: str | None = None,
) -> Parser:  # fmt: skip
    parser = kinds.add_parser(name, help=purpose)
    parser.add_argument("files", nargs=files, type=file, metavar="delta", help="delta file")
    parser.add_argument(
        "--model", default=MODEL, help=f"the base that the delta was made on ({MODEL})"
    )
    parser.add_argument(
        "--num-labels", type=whole(least=1), help="labels of a classifier (as its files say)"
    )
    if output:
        kind = output_folder if output.startswith("folder") else output_file
        parser.add_argument("--output", type=kind, required=True, help=output)
    parser.add_argument(
        "--force", action="store_true", help="take --model for the base, whatever the files say"
    )
    json_argument(parser)
    parser.set_defaults(command=command)
    return parser


def _info(chosen: argparse.Namespace) -> Outcome:
    import landscape as ls

    model, _ = _load(chosen)
    attachment = ls.load_delta(model, chosen.files[0], force=chosen.force)
    moved = dataclasses.asdict(ls.distance(model))
    print(attachment)
    print(f"l2 {moved['l2']:.6g}, relative {moved['relative']:.4g}, linf {moved['linf']:.4g}")
    mask = attachment.mask
    rule = dict(mask.rule)
    return Outcome({"rule": rule, "count": mask.count, "ratio": mask.ratio, "distance": moved})


def _overlap(chosen: argparse.Namespace) -> Outcome:
    import landscape as ls

    _, (first, second) = _read(chosen)
    found = ls.overlap(first, second)
    print(
        f"{found.count:,} weights in both: {found.first:.4g} of the first, {found.second:.4g} of "
        f"the second; of those that both moved {found.same_sign:.4g} with one sign"
    )
    return Outcome(dataclasses.asdict(found))


def _add(chosen: argparse.Namespace) -> Outcome:
    model, (first, second) = _read(chosen)
    return _write(chosen, model, first + second)


def _subtract(chosen: argparse.Namespace) -> Outcome:
    model, (first, second) = _read(chosen)
    return _write(chosen, model, first - second)


def _scale(chosen: argparse.Namespace) -> Outcome:
    model, (only,) = _read(chosen)
    return _write(chosen, model, chosen.factor * only)


def _export(chosen: argparse.Namespace) -> Outcome:
    from landscape.deltas.outputs import check_outputs

    output = _place(chosen)
    check_outputs(output, format=chosen.format, restore=chosen.restore)  # before anything is loaded
    import landscape as ls

    model, tokenizer = _load(chosen)
    print(ls.load_delta(model, chosen.files[0], force=chosen.force))
    exported = ls.export_delta(
        model, output, format=chosen.format, restore=chosen.restore, dtype=chosen.dtype,
        tokenizer=tokenizer if chosen.format == "merged" else None,
    )  # fmt: skip
    print(exported)
    places = {"output": str(exported.output), "restore": None}
    if exported.restore is not None:
        places["restore"] = str(exported.restore)
    return Outcome(dataclasses.asdict(exported) | places)


def _place(chosen: argparse.Namespace) -> str:
    """Return where an export goes, a file or a folder by its format, if it can be written."""
    from landscape.errors import UserError

    try:
        return (output_file if chosen.format in ("vllm", "trl") else output_folder)(chosen.output)
    except argparse.ArgumentTypeError as error:
        raise UserError(f"argument --output: {error}") from None


def _load(chosen: argparse.Namespace) -> tuple[nn.Module, Any]:
    """Return the base model, in the precision that the first delta was made in, and its tokenizer.

    With ``--force`` in float32, whatever the file says.
    """
    import landscape as ls

    dtype = "float32" if chosen.force else _precision(chosen.files[0])
    return ls.load_model(chosen.model, dtype=dtype, num_labels=chosen.num_labels)


def _precision(path: str) -> str:
    """Return the floating type that a delta file names; whoever reads it says what is wrong."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as opened:
            said = json.loads((opened.metadata() or {}).get("landscape", "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError):
        said = {}
    found = said.get("dtype") if isinstance(said, dict) else None
    return found if found in _DTYPES else "float32"


def _read(chosen: argparse.Namespace) -> tuple[Any, list[Any]]:
    import landscape as ls

    model, _ = _load(chosen)
    return model, [ls.read_delta(model, file, force=chosen.force) for file in chosen.files]


def _write(chosen: argparse.Namespace, model: Any, change: Any) -> Outcome:
    import landscape as ls

    print(ls.apply_delta(model, change))
    path = ls.save_delta(model, chosen.output)
    print(f"delta: {path} ({path.stat().st_size:,} bytes)")
    moved = ls.distance(model)
    return Outcome({"output": str(path), "count": change.mask.count, "l2": moved.l2})
