"""Judge and draw the rows of `selections`: methods at equal budget, beside paper 2's table 1."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from experiments.kit.cells import best_on_dev
from experiments.kit.draw import colors, despine, panels, title
from experiments.kit.intervals import describe_margin, gains, margins, mean_std
from experiments.kit.judge import Finding, every, settle
from experiments.kit.publish import Page
from experiments.kit.store import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METHODS = (
    "full", "BitFit", "LoRA", "adapter", "random", "magnitude", "PaFi", "SNIP", "Fisher",
    "ID3 static", "ID3 repeat", "ID3 increment", "PaFi + LoRA", "ID3 + LoRA", "SparseAdapter",
    "ID3 + adapter",
)  # fmt: skip
#: methods that choose by a rule what to train; each has exactly the budget
MASKS = METHODS[4:]
#: DeBERTa-v3-base at 103K parameters (LoRA 1.33M, masks on it 320K): SST-2 and average over GLUE,
#: per cent; tables 1 and 2 of Agarwal et al. 2024
PAPER = {
    "full": (96.33, 88.86), "random": (93.61, 80.60), "Fisher": (95.22, 86.95),
    "PaFi": (95.84, 86.97), "BitFit": (95.38, 86.43), "ID3 increment": (95.64, 88.13),
    "LoRA": (95.57, 88.76), "PaFi + LoRA": (96.03, 88.76), "ID3 + LoRA": (95.76, 88.93),
}  # fmt: skip
DIFFERENCES = (
    (
        "model {model}; a language model is scored on the label's words, an encoder's head is a "
        "linear probe, fitted first and then frozen; the paper trains DeBERTa-v3-base with a fresh "
        "classifier head",
        "no head has to be learned, so fewer scalars and steps suffice",
    ),
    ("task {task}; the paper's columns are SST-2 and the average of GLUE", "levels differ"),
    (
        "{num_train} training examples, {epochs} epochs; the paper takes the whole training set "
        "and 7 epochs of SST-2",
        "increments hand the budget out over fewer steps",
    ),
    (
        "all seeds are averaged, rates are chosen on dev with the first; the paper averages the "
        "best three of four seeds",
        "the paper's means are higher and its deviations smaller than those of all four",
    ),
    (
        "every method's rate is tuned over its own grid; the paper has one grid for all but full "
        "fine-tuning",
        "methods that need a larger rate, such as random masks, gain here",
    ),
    (
        "ID3 with exp = {id3_exp}, eps = {id3_eps}, as table 7a says; the text recommends exp = -1",
        "with eps = 1 weights below 0.1 hardly matter: the score is almost the gradient",
    ),
    (
        "LoRA and adapters have the size nearest to the budget, those under a mask {surplus:g} "
        "times that; the paper gives LoRA 1.33M scalars and masks on it 320K",
        "the paper compares a mask with the whole LoRA under it, here with one of its own size",
    ),
    ("adapters of two a layer; table 3 has one a layer, on RoBERTa-base", "no level to compare"),
    ("Fisher scores {score_examples} examples; the paper 1024", "noisier scores"),
)


def final_rows(rows: Sequence[Row]) -> list[Row]:
    """Return, for every method and seed, the run at the rate chosen with the first seed."""
    trained = [row for row in rows if row["kind"] == "train"]
    final = []
    for method in METHODS:
        own = [row for row in trained if row["method"] == method]
        if own:
            rate = best_on_dev([row for row in own if row["seed"] == own[0]["seed"]])["rate"]
            final += [row for row in own if row["rate"] == rate]
    return final


def check(rows: Sequence[Row]) -> list[Finding]:
    """Compare the rows with what the paper says of its tables 1, 2 and 3 and its figure 6."""
    findings = []
    for other in ("random", "PaFi", "Fisher", "BitFit", "ID3 static", "SNIP", "magnitude"):
        findings.append(_order(rows, "ID3 increment", other))
    findings += [_order(rows, other, "random") for other in ("Fisher", "PaFi")]
    findings.append(_order(rows, "full", "ID3 increment"))
    for better, worse in (
        ("ID3 increment", "ID3 repeat"), ("ID3 + LoRA", "PaFi + LoRA"), ("ID3 + LoRA", "LoRA"),
        ("ID3 + adapter", "SparseAdapter"), ("ID3 + adapter", "adapter"),
    ):  # fmt: skip
        findings.append(_order(rows, better, worse))
    final = final_rows(rows)
    counts = {r["method"]: r["count"] for r in final}
    masks = {counts[method] for method in MASKS if method in counts}
    text = "every mask has the same number of scalars"
    sizes = ", ".join(f"{method} {count:,}" for method, count in counts.items())
    findings.append(Finding(text, settle(len(masks) == 1), sizes))
    zero = {r["seed"]: r["test_accuracy"] for r in rows if r["kind"] == "zero-shot"}
    gained = {(r["method"], r["seed"]): r["test_accuracy"] - zero[r["seed"]] for r in final}
    least = min(gained, key=lambda place: gained[place])
    evidence = f"smallest gain {gained[least]:+.3f}: {least[0]}, seed {least[1]}"
    text = "every method is more accurate on test after training than before"
    by_method = [[g for (name, _), g in gained.items() if name == m] for m in counts]
    return [*findings, Finding(text, every(map(gains, by_method)), evidence)]


def _order(rows: Sequence[Row], better: str, worse: str) -> Finding:
    text = f"{better} is more accurate than {worse}"
    found = list(margins(final_rows(rows), "method", better, worse, "test_accuracy").values())
    if not found:
        return Finding(text, "undecided", "not both were run")
    return Finding(text, gains(found), describe_margin(found))


def tables(rows: Sequence[Row]) -> dict[str, list[dict[str, str]]]:
    """Summarise one line a method, mean ± std over seeds; a rate at its grid's edge has a star."""
    final, lines = final_rows(rows), []
    for method in METHODS:
        cell = [row for row in final if row["method"] == method]
        paper = PAPER.get(method)
        line = dict.fromkeys(("method", "trainable", "rate", "seeds", "dev", "test"), "-")
        line["method"] = method
        if cell:
            rate = cell[0]["rate"]
            # a grid that was widened later is in its later rows
            own = [r for r in rows if r["kind"] == "train" and r["method"] == method]
            tried = {each for r in own for each in r["tried"]}
            edge = "*" if len(tried) > 1 and rate in (min(tried), max(tried)) else ""
            line |= {
                "trainable": f"{cell[0]['count']:,}", "rate": f"{rate:g}{edge}",
                "seeds": str(len(cell)), "dev": mean_std([r["dev_accuracy"] for r in cell], ".3f"),
                "test": mean_std([r["test_accuracy"] for r in cell], ".3f"),
            }  # fmt: skip
        elif any(r["kind"] == "absent" and r["method"] == method for r in rows):
            line["test"] = "no biases"
        else:
            continue
        line |= {
            "paper, SST-2": f"{paper[0] / 100:.3f}" if paper else "-",
            "paper, GLUE": f"{paper[1] / 100:.3f}" if paper else "-",
        }
        lines.append(line)
    return {f"Results ({NOTE})": lines}


NOTE = "* the best rate lies at the edge of those tried"
PAGE = Page(
    title="Which weights to train, at equal budget",
    lead=(
        "A pretrained model is fine-tuned by methods that differ in the weights they "
        "train: drawn at random, chosen by a score before training or during it, or inserted. "
        "Each has its own learning rate, tuned on dev."
    ),
    caption="Test accuracy of each method; points are seeds",
    first=False,
    form="table",
    headings=False,
    differences=DIFFERENCES,
    note=NOTE,
)


def draw(rows: Sequence[Row]) -> Figure:
    """Draw the test accuracy of each method, mean and seeds."""
    figure, axis = panels((8.5, 4.4))
    final = final_rows(rows)
    present = [method for method in METHODS if any(r["method"] == method for r in final)]
    blue, orange, *_ = colors()
    for place, method in enumerate(reversed(present)):
        values = [row["test_accuracy"] for row in final if row["method"] == method]
        color: Any = blue if method in MASKS else orange
        axis.plot(values, [place] * len(values), ".", color=color, alpha=0.5)
        axis.plot(fmean(values), place, "o", color=color, ms=8)
    seeds = {row["seed"] for row in final}
    zero = [r["test_accuracy"] for r in rows if r["kind"] == "zero-shot" and r["seed"] in seeds]
    axis.axvline(fmean(zero), ls="--", color="0.5", lw=1.2, label="before training")
    axis.plot([], [], "o", color=blue, label="masks, equal budget")
    axis.plot([], [], "o", color=orange, label="baselines")
    axis.set_yticks(range(len(present)), list(reversed(present)))
    axis.set_xlabel("test accuracy")
    title(axis, "Which weights to train")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    despine(axis)
    return figure
