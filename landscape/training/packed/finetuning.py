"""Fine-tune several runs of one frozen model together, in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from landscape import checks
from landscape.training.pace import Pace
from landscape.training.packed.folder import PackFolder
from landscape.training.packed.lane import Lane
from landscape.training.packed.pack import Pack
from landscape.training.run import Run


def finetune_packed(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    lanes: Sequence[Lane],
    *,
    folder: str | Path | None = None,
    folders: Sequence[str | Path] | None = None,
    overwrite: bool = False,
    checkpoint_every: int | None = None,
    tokens: int | None = None,
    progress: bool = False,
    tell: Callable[[int, int, int], object] = lambda lane, taken, total: None,
) -> list[Run]:
    """Train several runs that share a frozen model, each as if alone, in one forward and backward.

        import landscape as ls

        model, tokenizer = ls.load_model("smollm2-135m")
        task = ls.load_task("rotten_tomatoes", num_train=96)
        masks = [ls.random_mask(model, ratio=1e-3, seed=seed) for seed in range(8)]
        lanes = [ls.Lane(task, mask=mask, lr=0.1, seed=seed) for seed, mask in enumerate(masks)]
        runs = ls.finetune_packed(model, tokenizer, lanes, folder="runs")

    Every lane has its own mask, learning rate, seed, order of examples, dropout, clipping, choice
    of checkpoint and end, and every number of its run is that of `finetune` to rounding. (On
    a GPU that holds without dropout: there lanes draw masks of their own.) What it gains:
    rows of all lanes are batched by length, which pads less than any run alone, and what does not
    depend on a lane is computed for all at once.

    Args:
        model: the frozen one; unchanged afterwards, bit for bit. Layers in which lanes differ must
            be ``nn.Linear`` or ``Conv1D`` (masked, or trained whole) or ``nn.LayerNorm``.
        tokenizer: of the model.
        lanes: at least one, of one kind of examples, one loss and one precision; `lane_of` makes
            one of a model that was prepared as for `finetune`.
        folder: where the pack keeps its checkpoint, and each lane its run; None keeps all in
            memory. A pack that was killed and is called again goes on, and ends bit for bit as one
            that was not.
        folders: of the lanes' runs, one each, in place of ``folder/00``, ``01``, ... They are
            those that `finetune` writes: called with the same model it finds its run finished,
            and gives the model the checkpoint that was chosen.
        overwrite: start anew, whatever the folders hold.
        checkpoint_every: steps between checkpoints, as for `finetune`; Ctrl-C writes none.
        tokens: most tokens of a forward, padding included: what bounds the memory of activations;
            None is 2,048 on a CPU, and 16,384 on a GPU, which wants many.
        progress: show a progress bar on standard error, if that is a terminal.
        tell: called as ``tell(lane, taken, total)`` of every lane after each of its steps: its
            number, and of how many steps it has taken how many.

    Returns:
        The runs, in the order of the lanes.

    Raises:
        UserError: a lane that cannot be packed (`landscape.training.packed.why_not` tells), or as
            `finetune`.

    Cost: the products of the lanes' solo runs, with less padding; a lane keeps O(k): theta, its
        pretrained values, the optimizer's state, the best and the first point.
    """
    pace = Pace(checkpoint_every)
    pack = Pack(model, tokenizer, lanes, tokens=tokens)
    kept = None
    if folder is not None:
        path = Path(checks.path("folder", folder))
        kept = PackFolder(path, folders, pack, tokenizer, overwrite=overwrite)
        if kept.finished:
            return kept.runs()
        kept.resume(pack)
    total = max(course.total for course in pack.courses)
    bar = tqdm(
        total=total, initial=pack.taken, leave=False, unit="step", desc=f"{len(lanes)} runs",
        disable=None if progress else True,
    )  # fmt: skip
    with bar:
        while alive := pack.alive:
            evaluated = pack.step()
            bar.update()
            if kept is not None and pace.is_due(
                pack.taken, evaluated=evaluated, last=not pack.alive
            ):
                with pace.writing():
                    kept.save(pack)
            for lane, course in alive.items():
                tell(lane, course.updates.taken, course.total)
    for i, course in enumerate(pack.courses):
        pack.finish(course)
        if kept is not None:
            kept.finish(i, course)
    if kept is not None:
        kept.close()
        return kept.runs()
    return [course.run for course in pack.courses if course.run is not None]
