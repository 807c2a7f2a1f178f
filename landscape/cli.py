"""The command line: ``landscape finetune | sharpness | bench``."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from landscape.errors import NotConvergedWarning, UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 1 where a run diverged, or 2 after a user's mistake."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    return guarded(lambda: int(chosen.command(chosen)))


def guarded(command: Callable[[], int]) -> int:
    """Run a command and print a user's mistake as one sentence, without a traceback."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", NotConvergedWarning)
            return command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; call again with the same folder to go on", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="landscape",
        description="Masked fine-tuning, and the loss landscape inside the mask.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    tune = commands.add_parser("finetune", help="train a random fraction of a model's weights")
    _model_arguments(tune)
    tune.add_argument("--lr", type=float, required=True, help="learning rate")
    tune.add_argument("--epochs", type=int, default=5, help="passes over the examples (5)")
    tune.add_argument("--batch-size", type=int, default=8, help="examples a step (8)")
    tune.add_argument("--output", help="folder of the run: resumes, and receives the delta file")
    tune.set_defaults(command=_finetune)
    sharp = commands.add_parser("sharpness", help="top Hessian eigenvalue inside the mask")
    _model_arguments(sharp)
    sharp.add_argument("--delta", help="delta file to measure at, instead of a fresh mask")
    sharp.add_argument("--examples", type=int, default=32, help="training examples averaged (32)")
    sharp.add_argument("--k", type=int, default=1, help="number of eigenvalues (1)")
    sharp.add_argument(
        "--which", choices=("LA", "SA", "LM"), default="LA",
        help="largest, smallest or largest in magnitude (LA)",
    )  # fmt: skip
    sharp.add_argument("--tol", type=float, default=1e-2, help="relative residual (0.01)")
    sharp.add_argument("--max-products", type=int, default=100, help="products at most (100)")
    sharp.set_defaults(command=_sharpness)
    bench = commands.add_parser("bench", help="measure speed and memory against other libraries")
    kinds = bench.add_subparsers(required=True, metavar="what")
    step = kinds.add_parser("step", help="one training step against peft and the frozen floor")
    step.add_argument("--rounds", type=int, default=9, help="timed rounds (9)")
    step.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    step.set_defaults(command=_bench_step)
    kernel = kinds.add_parser("kernels", help="gradient kernels over a grid, and the cost model")
    kernel.add_argument("--rounds", type=int, default=7, help="timed rounds (7)")
    kernel.add_argument(
        "--json", action="store_true", help="print one JSON object as the last line"
    )
    kernel.set_defaults(command=_bench_kernels)
    masks = kinds.add_parser("masks", help="making a mask of OPT-13b, attaching many deltas")
    masks.add_argument("--deltas", type=int, default=1000, help="deltas attached in turn (1000)")
    masks.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    masks.set_defaults(command=_bench_masks)
    return parser


def _model_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="smollm2-135m", help="packaged name, hub name or path")
    parser.add_argument("--task", default="rotten_tomatoes", help="rotten_tomatoes or sst2")
    parser.add_argument("--source", help="folder of the task's files, instead of the hub")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--ratio", type=float, help="trainable over all parameters (0.001)")
    budget.add_argument("--density", type=float, help="trainable over the target tensors")
    budget.add_argument("--count", type=int, help="number of trainable weights")
    parser.add_argument("--targets", default="*.[qv]_proj", help="pattern of the masked modules")
    parser.add_argument("--num-train", type=int, default=1000, help="training examples (1000)")
    parser.add_argument("--num-dev", type=int, default=500, help="development examples (500)")
    parser.add_argument("--num-test", type=int, default=1000, help="test examples (1000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the data and its order (0)")
    parser.add_argument("--mask-seed", type=int, default=0, help="seed of the mask (0)")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object as the last line"
    )


def _load(chosen: argparse.Namespace) -> tuple[Any, Any, Any]:
    import landscape as ls

    task = ls.load_task(
        chosen.task, source=chosen.source, num_train=chosen.num_train, num_dev=chosen.num_dev,
        num_test=chosen.num_test, seed=chosen.seed,
    )  # fmt: skip
    model, tokenizer = ls.load_model(chosen.model)
    return model, tokenizer, task


def _mask(model: Any, chosen: argparse.Namespace) -> None:
    import landscape as ls

    budget = {key: getattr(chosen, key) for key in ("ratio", "density", "count")}
    given = {key: value for key, value in budget.items() if value is not None} or {"ratio": 1e-3}
    mask = ls.random_mask(model, targets=chosen.targets, seed=chosen.mask_seed, **given)
    print(ls.attach(model, mask))


def _finetune(chosen: argparse.Namespace) -> int:
    import landscape as ls

    model, tokenizer, task = _load(chosen)
    _mask(model, chosen)
    run = ls.finetune(
        model, tokenizer, task, lr=chosen.lr, epochs=chosen.epochs, batch_size=chosen.batch_size,
        seed=chosen.seed, directory=chosen.output, progress=True,
    )  # fmt: skip
    if chosen.output:
        path = ls.save_delta(model, Path(chosen.output) / "delta.safetensors")
        print(f"delta: {path} ({path.stat().st_size:,} bytes)")
    dev, test = run.metrics["dev"] or {}, run.metrics["test"] or {}
    if run.diverged:
        print(f"diverged at step {run.metrics['steps']}: the loss is not finite; lower --lr")
    print(
        f"dev {dev.get(task.metric, float('nan')):.3f}, "
        f"test {test.get(task.metric, float('nan')):.3f}, distance {run.distance['l2']:.4g}, "
        f"{run.metrics['steps']} steps in {run.metrics['seconds']:.0f} s"
    )
    if chosen.json:
        print(json.dumps({"config": run.config, "metrics": run.metrics, "distance": run.distance}))
    return 1 if run.diverged else 0


def _sharpness(chosen: argparse.Namespace) -> int:
    import landscape as ls
    from landscape.batches import make_batches

    model, tokenizer, task = _load(chosen)
    if chosen.delta:
        print(ls.load_delta(model, chosen.delta))
    else:
        _mask(model, chosen)
    batches = make_batches(
        task.train[: chosen.examples], tokenizer, chosen.examples, sort=True, loss=task.loss
    )
    H = ls.HessianOperator(model, batches)
    ls.health_check(H)
    top = ls.lanczos(
        H, k=chosen.k, which=chosen.which, tol=chosen.tol, max_matvecs=chosen.max_products, seed=0
    )
    for value, residual in zip(top.eigenvalues, top.residuals, strict=True):
        print(f"eigenvalue {float(value):.6g} ± {float(residual):.2g}")
    state = "converged" if top.converged else "not converged"
    print(f"{state} after {top.num_matvecs} products; loss {float(H.loss()):.4f}")
    if chosen.json:
        result = {
            "eigenvalues": [float(v) for v in top.eigenvalues],
            "residuals": [float(r) for r in top.residuals],
            "num_matvecs": top.num_matvecs,
            "converged": bool(top.converged),
            "loss": float(H.loss()),
        }
        print(json.dumps(result))
    return 0


def _bench_step(chosen: argparse.Namespace) -> int:
    from landscape.bench.step import bench_step
    from landscape.report import format_table

    result = bench_step(rounds=chosen.rounds)
    base = result["seconds"]["floor"]
    print(format_table([
        {"variant": name, "seconds": f"{seconds:.3f}", "over floor": f"{seconds / base:.3f}",
         "peak memory (MB)": f"{result['peak_memory'][name] / 1e6:,.0f}"}
        for name, seconds in result["seconds"].items()
    ]))  # fmt: skip
    print("\n".join(f"{k}: {v:.3f}" for k, v in result.items() if "_over_" in k))
    if chosen.json:
        print(json.dumps(result))
    return 0


def _bench_kernels(chosen: argparse.Namespace) -> int:
    from landscape.bench.kernels import bench_kernels
    from landscape.report import format_table

    result = bench_kernels(rounds=chosen.rounds)
    print(format_table([
        {"mask": cell["pattern"], "density": f"{cell['density']:g}", "tokens": str(cell["tokens"]),
         **{f"{kernel} (ms)": f"{cell['milliseconds'].get(kernel, float('nan')):.3g}"
            for kernel in ("gather", "sampled", "dense", "slices", "spops")
            if any(kernel in c["milliseconds"] for c in result["cells"])},
         "choice": cell["choice"], "over best": f"{cell['choice_over_best']:.2f}"}
        for cell in result["cells"]
    ]))  # fmt: skip
    for name, value in result["fitted"].items():
        print(f"{name}: fitted {value:.3g} s, in use {result['present'][name]:.3g} s")
    for constants, kind in (("in use", "choice"), ("fitted", "fitted_choice")):
        worst, middle = result[f"worst_{kind}"], result[f"median_{kind}"]
        print(f"choice over best, constants {constants}: worst {worst:.2f}, median {middle:.2f}")
    if chosen.json:
        print(json.dumps(result))
    return 0


def _bench_masks(chosen: argparse.Namespace) -> int:
    from landscape.bench.masks import bench_masks

    result = bench_masks(deltas=chosen.deltas)
    made = result["creation"]
    print(f"a mask of {made['count']:,} of {made['candidates']:,} weights: "
          f"{made['seconds']:.3f} s, {made['added_memory'] / 1e6:.1f} MB")  # fmt: skip
    for cell in result["attaching"]:
        print(f"{result['deltas']} deltas of {cell['count']:,} in {cell['weights']:,} weights: "
              f"{1e3 * cell['seconds']:.3f} ms each")  # fmt: skip
    print(f"16 times the weights: {result['weights_ratio']:.2f} times the time")
    if chosen.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
