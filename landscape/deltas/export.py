"""Export: a trained mask in the formats that other software takes.

    shira, super-tuning   an adapter of peft: a folder, switched on and off there
    merged                a plain model with the delta in its weights: a folder
    vllm, trl             a patch of the checkpoint that a server has loaded: a file of absolute
                          values, and a second one that restores the original

What a patch addresses are checkpoint coordinates: names, shapes and layouts of the files that
`save_pretrained` writes of the base. Where a server has read files of other names (old ones of the
hub may lack a prefix), save the base and serve that. A packaged model that was converted from a
GGUF file has the coordinates of the converted one; the GGUF file itself takes no patch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from landscape import checks
from landscape.deltas.checkpoint import saved_model
from landscape.deltas.merged import Tokenizer, write_merged
from landscape.deltas.outputs import PATCHES, check_outputs, write_files, write_folder
from landscape.deltas.patch import Patch, Rounding, Weights, changed_weights, read_patch
from landscape.deltas.peft import Kind, save_peft
from landscape.deltas.trl import trl_metadata
from landscape.deltas.vllm import vllm_metadata
from landscape.errors import UserError
from landscape.models.placement import DTYPES
from landscape.subspace import dense_parameters, dense_starts, thetas

Format = Literal["shira", "super-tuning", "merged", "vllm", "trl"]
FORMATS = ("shira", "super-tuning", "merged", *PATCHES)


@dataclass(frozen=True)
class Export:
    """Say what was written.

    Args:
        format: one of shira, super-tuning, merged, vllm and trl.
        output: the file or folder.
        restore: the file that restores the original; None for what is no patch.
        dtype: floating type of the values.
        count: weights that it sets, those of dense tensors included.
        updates: of them, those whose change is not 0.
        rounded_away: of the updates, those that the type rounds back to the original value.
        largest_rounding: max |value written - exact value| over the weights.
        originals_rounded: weights whose original value the type does not hold exactly: what was
            written is then for the base cast to the type.
    """

    format: Format
    output: Path
    restore: Path | None
    dtype: str
    count: int
    updates: int
    rounded_away: int
    largest_rounding: float
    originals_rounded: int

    def __str__(self) -> str:
        lines = [f"{self.format}: {self.output} ({self.count:,} weights, {self.dtype})"]
        if self.restore is not None:
            lines.append(f"restores the original: {self.restore}")
        lines.append(
            f"{self.dtype} rounds {self.rounded_away:,} of {self.updates:,} updates away; largest "
            f"rounding {self.largest_rounding:.3g}"
        )
        if self.originals_rounded:
            lines.append(
                f"{self.originals_rounded:,} original weights are no {self.dtype} numbers: this "
                f"is for the base cast to {self.dtype}"
            )
        return "\n".join(lines)


def export_delta(
    model: nn.Module,
    output: str | Path,
    *,
    format: Format,
    restore: str | Path | None = None,
    dtype: torch.dtype | str | None = None,
    tokenizer: Tokenizer | None = None,
) -> Export:
    """Write the change of an attached model in a format of other software.

    The model stays as it is. A patch holds, for every weight of the mask and of the tensors that
    are trained beside it, the absolute value round(W_0 + theta) in the checkpoint's type, which is
    what the merged model has there; its restore holds round(W_0) at the same places. Applied to
    the base's checkpoint the one gives the merged weights bit for bit, and after it the other
    gives the original ones back.

    Args:
        model: a model of transformers with a mask attached; for shira and super-tuning any whose
            masked weights are those of ``nn.Linear`` layers.
        output: where it goes: a new file (vllm, trl), or a new or empty folder; written whole or
            not at all.
        format: "shira" or "super-tuning" (`save_peft`), "merged", "vllm" or "trl".
        restore: a new file for the patch that restores the original; the output's name with
            ``.restore`` before its suffix if absent.
        dtype: floating type of the checkpoint, or its name; the base's own if absent. That of trl
            is bfloat16, and peft's adapters are float32.
        tokenizer: or image processor, saved beside a merged model.

    Returns:
        What was written, and what rounding did; it prints as lines.

    Raises:
        UserError: no mask; an unknown format; a place that is taken; a quantised or sharded base;
            a tensor that the checkpoint lacks, or an index beyond int32; values that the type
            cannot hold; or as `save_peft`.

    Cost: a patch has 4 bytes and a value for each weight, its restore as many; a merged model
    is written whole.
    Source: vLLM's checkpoint weight patches and TRL's sparse delta files, both of 2026; what was
    verified of them, and how, say ``landscape/deltas/vllm.py`` and ``trl.py``.
    """
    checks.model(model)
    format = cast(Format, checks.choice("format", format, FORMATS))
    target, back = check_outputs(output, format=format, restore=restore)
    kind = _dtype_of(dtype, format)
    if tokenizer is not None:
        do = "take the one that load_model gives, for a merged model alone"
        checks.has("tokenizer", tokenizer, "a tokenizer", "save_pretrained", do=do)
        if format != "merged":
            checks.refuse("tokenizer", f"absent with {format}", tokenizer, do)
    if format == "merged":
        plain = saved_model(model)
        changed = list(changed_weights(plain, kind))
        write_folder(target, partial(write_merged, plain, dtype=kind, tokenizer=tokenizer))
        rounding = sum((did for _, _, did in changed), Rounding())
        return _export(format, target, None, [weights for _, weights, _ in changed], rounding)
    if back is not None:
        patch, rounding = read_patch(saved_model(model), kind)
        contents = {back: (patch.original, 0), target: (patch, 1)}
        write_files({p: _writer(one, format, version) for p, (one, version) in contents.items()})
        return _export(format, target, back, patch.weights.values(), rounding)
    write_folder(target, partial(save_peft, model, kind=cast(Kind, format.replace("-", ""))))
    starts, held = dense_starts(model), dense_parameters(model)
    moves = [theta != 0 for theta in thetas(model).values()]
    moves += [p != starts[name] for name, p in held.items()]
    count, updates = sum(m.numel() for m in moves), sum(int(m.sum()) for m in moves)
    return Export(format, target, None, "float32", count, updates, 0, 0.0, 0)


def _dtype_of(dtype: torch.dtype | str | None, format: Format) -> torch.dtype | None:
    """Return the type to round to, None for the base's own."""
    found = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if dtype is not None and found not in DTYPES.values():
        got = str(dtype) if isinstance(dtype, torch.dtype) else dtype
        checks.refuse("dtype", f"one of {', '.join(DTYPES)}", got, "give one of these")
    if format == "trl":
        if found not in (None, torch.bfloat16):
            checks.refuse("dtype", "bfloat16, which trl stores", str(found), "leave it out")
        return torch.bfloat16
    if found is not None and format not in (*PATCHES, "merged"):
        checks.refuse("dtype", f"absent, for {format} is float32", str(found), "leave it out")
    return found


def _writer(patch: Patch, format: Format, version: int) -> partial[None]:
    """Return what writes a patch to a path; what cannot be stored is refused here."""
    said = vllm_metadata(patch) if format == "vllm" else trl_metadata(patch, version=version)
    stored: dict[str, Tensor] = {}
    for name, weights in patch.weights.items():
        if int(weights.indices[-1]) >= 2**31:
            raise UserError(
                f"expected indices below 2^31, which is all that {format} stores, got "
                f"{int(weights.indices[-1])} in {name}; use save_delta, or export it merged"
            )
        stored[f"{name}.indices"] = weights.indices.to(torch.int32)
        stored[f"{name}.values"] = weights.values.contiguous()
    return partial(save_file, stored, metadata=said)


def _export(
    format: Format, target: Path, back: Path | None, written: Iterable[Weights], did: Rounding
) -> Export:
    held = list(written)
    kinds = {str(weights.values.dtype).removeprefix("torch.") for weights in held}
    return Export(
        format=format, output=target, restore=back, dtype=", ".join(sorted(kinds)),
        count=sum(weights.indices.numel() for weights in held), updates=did.updates,
        rounded_away=did.lost, largest_rounding=did.largest, originals_rounded=did.originals,
    )  # fmt: skip
