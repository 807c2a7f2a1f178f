"""``landscape bench``: step, generate, scoring, kernels, masks, curvature, packed, protocol."""

from __future__ import annotations

import argparse
from typing import Any

from landscape.cli.arguments import device, folder, whole
from landscape.cli.parser import Commands
from landscape.cli.shared import Outcome, json_argument


def add(commands: Commands) -> None:
    """Declare the commands."""
    bench = commands.add_parser("bench", help="measure speed and memory against other libraries")
    kinds = bench.add_subparsers(required=True, metavar="what")
    for name, command, purpose, times, default, counted in (
        ("step", _step, "a training step against peft's LoRA, full fine-tuning and a frozen model",
         "--rounds", 9, "timed rounds"),
        ("generate", _generate, "generating with a mask attached against the merged model",
         "--rounds", 5, "timed rounds"),
        ("scoring", _scoring, "selecting a mask against one gradient step",
         "--rounds", 5, "timed rounds"),
        ("kernels", _kernels, "gradient kernels on many sizes, and the cost model",
         "--rounds", 7, "timed rounds"),
        ("masks", _masks, "making a mask of OPT-13b, attaching many deltas",
         "--deltas", 1000, "deltas attached in turn"),
        ("curvature", _curvature, "the top eigenvalue against other libraries",
         "--rounds", 1, "timed rounds"),
        ("packed", _packed, "runs that train together against the same runs one at a time",
         "--rounds", 3, "timed steps"),
        ("protocol", _protocol, "training and evaluation against the papers' protocol done "
         "literally", "--rounds", 2, "timed rounds"),
    ):  # fmt: skip
        kind = kinds.add_parser(name, help=purpose)
        said = f"{counted} ({default})"
        kind.add_argument(times, type=whole(least=1), default=default, help=said)
        json_argument(kind)
        kind.set_defaults(command=command)
        if name == "packed":
            _packed_arguments(kind)
    kind.add_argument(
        "--data", type=folder, metavar="FOLDER",
        help="folder that holds official releases of the tasks, such as FOLDER/superglue/RTE "
        "(packaged reviews in their shapes)",
    )  # fmt: skip


def _packed_arguments(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--runs", type=whole(least=2), default=8, help="runs together (8)")
    kind.add_argument("--device", type=device, default="cpu", help="where, such as cuda (cpu)")
    kind.add_argument(
        "--shape", choices=["opt-125m"],
        help="random weights of this shape on synthetic texts, in place of the packaged models",
    )  # fmt: skip


def _step(chosen: argparse.Namespace) -> Outcome:
    from landscape.bench.step import bench_step
    from landscape.figures.table import format_table

    result = bench_step(rounds=chosen.rounds)
    base = result["seconds"]["floor"]
    print(format_table([
        {"variant": name, "seconds": f"{seconds:.3f}", "over floor": f"{seconds / base:.3f}",
         "peak memory (MB)": f"{result['peak_memory'][name] / 1e6:,.0f}"}
        for name, seconds in result["seconds"].items()
    ]))  # fmt: skip
    ratios = {k: v for k, v in result.items() if "_over_" in k and isinstance(v, float)}
    print("\n".join(f"{k}: {v:.3f}" for k, v in ratios.items()))
    for layers, peaks in result["peak_memory_over_floor"].items():
        found = ", ".join(f"{over:.3f} at ratio {ratio}" for ratio, over in peaks.items())
        print(f"peak memory over the floor's, {layers}: {found}")
    return Outcome(result)


def _generate(chosen: argparse.Namespace) -> Outcome:
    from landscape.bench.generate import bench_generate
    from landscape.figures.table import format_table

    result = bench_generate(rounds=chosen.rounds)
    print(format_table([
        {"layers": cell["layers"], "ratio": f"{cell['ratio']:g}", "trainable": f"{cell['count']:,}",
         "merged (s)": f"{cell['seconds']['merged']:.3f}",
         **{f"{name} over merged, {clock}": _spread(cell[f"{name}_over_merged"], clock)
            for clock in ("wall", "cpu") for name in ("attached", "plain")}}
        for cell in result["cells"]
    ]))  # fmt: skip
    return Outcome(result)


def _spread(ratio: dict[str, Any], clock: str) -> str:
    low, high = ratio[f"{clock}_quartiles"]
    return f"{ratio[clock]:.3f} ({low:.3f} to {high:.3f})"


def _scoring(chosen: argparse.Namespace) -> Outcome:
    from landscape.bench.scoring import bench_scoring
    from landscape.figures.table import format_table

    result = bench_scoring(rounds=chosen.rounds)
    print(format_table([
        {"layers": cell["layers"], "score": cell["score"],
         "selection (s)": f"{cell['seconds']['select']:.3f}",
         "gradient step (s)": f"{cell['seconds']['step']:.3f}",
         "over step": f"{cell['over_step']:.3f}",
         "added memory (MB)": f"{cell['memory'] / 1e6:,.0f}",
         "targets (MB)": f"{4 * cell['weights'] / 1e6:,.0f}"}
        for cell in result["cells"]
    ]))  # fmt: skip
    return Outcome(result)


def _kernels(chosen: argparse.Namespace) -> Outcome:
    from landscape.bench.kernels import bench_kernels
    from landscape.figures.table import format_table
    from landscape.kernels.choice import KERNELS

    result = bench_kernels(rounds=chosen.rounds)
    print(format_table([
        {"mask": cell["pattern"], "density": f"{cell['density']:g}", "tokens": str(cell["tokens"]),
         **{f"{kernel} (ms)": f"{cell['milliseconds'].get(kernel, float('nan')):.3g}"
            for kernel in KERNELS if any(kernel in c["milliseconds"] for c in result["cells"])},
         "choice": cell["choice"], "over best": f"{cell['choice_over_best']:.2f}"}
        for cell in result["cells"]
    ]))  # fmt: skip
    print("fitted constants of the kernels in landscape/kernels:")
    for name, value in result["fitted"].items():
        print(f'    "{name}": {value:.2e},  # in use {result["present"][name]:.2e}')
    chunks = ", ".join(f"{int(c):,}: {over:.2f}" for c, over in result["gather_chunks"].items())
    print(f"gather's time over its best, by chunk: {chunks}")
    for constants, kind in (("in use", "choice"), ("fitted", "fitted_choice")):
        worst, middle = result[f"worst_{kind}"], result[f"median_{kind}"]
        print(f"choice over best, constants {constants}: worst {worst:.2f}, median {middle:.2f}")
    return Outcome(result)


def _masks(chosen: argparse.Namespace) -> Outcome:
    from landscape.bench.masks import bench_masks

    result = bench_masks(deltas=chosen.deltas)
    made = result["creation"]
    print(f"a mask of {made['count']:,} of {made['candidates']:,} weights: "
          f"{made['seconds']:.3f} s, {made['added_memory'] / 1e6:.1f} MB")  # fmt: skip
    for cell in result["attaching"]:
        print(f"{result['deltas']} deltas of {cell['count']:,} in {cell['weights']:,} weights: "
              f"{1e3 * cell['seconds']:.3f} ms each")  # fmt: skip
    print(f"16 times the weights: {result['weights_ratio']:.2f} times the time")
    return Outcome(result)


def _curvature(chosen: argparse.Namespace) -> Outcome:
    from landscape.bench.curvature import PEERS, bench_curvature
    from landscape.figures.table import format_table
    from landscape.sources.carriers import missing

    if absent := missing(*PEERS):
        print(f"compared with fewer libraries: {absent}")

    result = bench_curvature(rounds=chosen.rounds)
    print(format_table([
        {"model": cell["shape"], "mask": cell["mask"], "loss": cell["loss"], "library": name,
         "matvecs": f"{found['products']:g}", "seconds": f"{found['seconds']:.3g}",
         "over ours": f"{found['over_ours']:.2f}", "error": f"{found['error']:.1e}"}
        for cell in result["cases"] for name, found in cell["libraries"].items()
    ]))  # fmt: skip
    for cell in result["cases"]:
        for name in ("pyhessian", "hessian_eigenthings"):
            if own := cell.get(f"{name}_own_rule"):
                print(f"{name} by its own rule, {cell['shape']}, {cell['mask']}, {cell['loss']}: "
                      f"{own['products']} matvecs, error {own['error']:.1e}")  # fmt: skip
    for name, value in result.items():
        if isinstance(value, float):
            print(f"{name}: {value:.3g}")
    return Outcome(result)


def _protocol(chosen: argparse.Namespace) -> Outcome:
    from landscape.bench.protocol import bench_protocol
    from landscape.bench.protocol.sides import SIDES
    from landscape.figures.table import format_table

    result = bench_protocol(rounds=chosen.rounds, data=chosen.data)
    print(format_table([
        {"task": cell["task"], "rows": cell["source"], "what": what,
         "literal (examples/s)": f"{cell[what]['examples_per_second']['literal']:.3g}",
         "ours": f"{cell[what]['examples_per_second']['ours']:.3g}",
         **{f"speedup, {clock}": _spread(cell[what]["speedup"], clock)
            for clock in ("wall", "cpu")},
         "tokens": _over(cell[what]["work"], "tokens"),
         "peak memory": f"{cell['peak_memory']['ratio']:.2f}" if "peak_memory" in cell else ""}
        for cell in result["cells"] for what in SIDES if what in cell
    ]))  # fmt: skip
    for name, value in result.items():
        if name.endswith(("_speedup", "_ratio")):
            print(f"{name}: {'none' if value is None else f'{value:.2f}'}")
    return Outcome(result)


def _packed(chosen: argparse.Namespace) -> Outcome:
    from landscape.bench.packed import bench_packed
    from landscape.figures.table import format_table

    result = bench_packed(
        rounds=chosen.rounds, runs=chosen.runs, device=chosen.device, shape=chosen.shape
    )
    print(format_table([
        {"model": cell["model"], "autocast": cell["autocast"] or "none", "runs": str(cell["runs"]),
         **{f"packed over solo, {clock}": _spread(cell["ratio"], clock)
            for clock in ("wall", "cpu")},
         "fewer tokens": f"{cell['floor_tokens']:.2f}",
         "peak memory": f"{cell['peak_memory']['ratio']:.2f}"}
        for cell in result["cells"]
    ]))  # fmt: skip
    if result["device"] == "cpu" and not result["amx"]:
        print("bf16 without AMX: this processor does not multiply bfloat16 matrices by itself")
    for name, value in result.items():
        if "_over_" in name:
            print(f"{name}: {value:.2f}")
    return Outcome(result)


def _over(work: dict[str, dict[str, int]], what: str) -> str:
    return f"{work['literal'][what] / work['ours'][what]:.2f} times fewer"
