"""``python -m theory``: verify the claims and print one table, or explain one of them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from landscape.errors import UserError
from theory.distributions import DISTRIBUTIONS, HIDDEN, JACOBIAN

if TYPE_CHECKING:
    from theory.features import Features
    from theory.problems import MaskedRegression


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    p = argparse.ArgumentParser(
        prog="python -m theory",
        usage="%(prog)s [explain ID] [options]",
        description="Verify every claim about masked linear regression over a default suite, or on "
        "one instance when any of --n --d --p --features --x --r --sigma is given.",
        epilog="python -m theory explain ID prints one claim: statement, assumptions, where it is "
        "printed, why, how it is measured, and its verdict on every instance. Verdicts: holds; "
        "violated; vacuous, it says nothing about the instance; unsettled, it does but the sample "
        "or float64 is too small to decide. Exit code: 0 as expected, vacuous included; 1 a true "
        "claim is violated or a false one is not; 2 bad input; 3 as expected, but some claim is "
        "unsettled on some instance.",
    )
    p.add_argument("words", nargs="*", metavar="explain ID", help="explain one claim")
    p.add_argument("--list", action="store_true", help="print ids and sentences; verify nothing")
    p.add_argument("--json", action="store_true", help="print a JSON list instead of the table")
    p.add_argument("--claim", action="append", metavar="ID", help="only this claim; repeatable")
    p.add_argument("--n", type=int, help="samples (default 16)")
    p.add_argument("--d", type=int, help="features (default 4096)")
    p.add_argument("--p", type=float, help="share of trainable features, in [0, 1] (default 0.1)")
    p.add_argument("--delta", type=float, default=0.05, help="failure probability (default 0.05)")
    p.add_argument("--sigma", type=float, help="noise in y (default 1)")
    p.add_argument("--r", type=float, help="declare that |x| <= r for all entries of X")
    p.add_argument(
        "--seed", type=int, default=0, help="seed of features, masks and noise (default 0)"
    )
    p.add_argument(
        "--features",
        metavar="NAME",
        help=f"one of {', '.join(DISTRIBUTIONS)}, or, of a packaged model, {HIDDEN} or "
        f"{JACOBIAN}: the gradients of its outputs over the maskable weights",
    )
    p.add_argument("--x", metavar="FILE", help="your own X (n, d), .npy or .npz")
    p.add_argument(
        "--figures",
        metavar="DIR",
        help="also draw the figures of the first instance into DIR, as PNG",
    )
    return p


def problems_of(options: argparse.Namespace) -> tuple[MaskedRegression, ...]:
    """Return the instances that the options ask for.

    Raises:
        UserError: options that contradict each other, or a value out of range.
    """
    from theory.features import load_features  # what claims need takes a while: --help does without
    from theory.problems import make_problem
    from theory.suite import default_problems, real_problems

    if options.seed < 0:
        raise UserError(f"expected --seed >= 0, got {options.seed}; give a non-negative integer")
    given = {
        name: getattr(options, name)
        for name in ("n", "d", "p", "sigma", "r")
        if getattr(options, name) is not None
    }
    if options.x is not None:
        clash = [
            f"--{name}" for name in ("n", "d", "features") if getattr(options, name) is not None
        ]
        if clash:
            raise UserError(
                f"expected --x without {', '.join(clash)}, got both; leave them out, the file "
                "decides them"
            )
        features: Features | str = load_features(options.x)
    elif options.features in (HIDDEN, JACOBIAN):
        if options.d is not None:
            raise UserError(
                f"expected --features {options.features} without --d, got both; leave --d out"
            )
        features = _real(options.features, given.pop("n", 16), options.seed)
    elif options.features is not None or given:
        features = options.features or "uniform"
    else:
        made = default_problems(options.seed, delta=options.delta)
        return made + real_problems(options.seed, delta=options.delta)
    return (make_problem(features, delta=options.delta, seed=options.seed, **given),)


def _real(name: str, n: int, seed: int) -> Features:
    """Return features of a packaged model; torch and transformers take seconds to import."""
    if name == JACOBIAN:
        from theory.jacobian import jacobian_features

        return jacobian_features(n, seed=seed)
    from theory.hidden import hidden_states

    return hidden_states(n, seed=seed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _verify([one for one in given if one != "--debug"])
        sys.stdout.flush()
        return code
    except (Exception, KeyboardInterrupt) as error:
        from landscape.cli.guard import tell  # landscape imports torch, which takes seconds

        return tell(error, debug="--debug" in given)


def chosen(options: argparse.Namespace) -> list[str] | None:
    """Return the ids that the options ask for, None for all.

    Raises:
        UserError: words that are not "explain ID", or with --claim or --json.
    """
    words = options.words
    if not words:
        return options.claim
    if words[0] != "explain" or len(words) != 2:
        raise UserError(
            f"expected explain and the id of one claim, got {' '.join(words)}; for example python "
            "-m theory explain prop-5.2"
        )
    if options.json or options.claim is not None:
        raise UserError(
            "expected explain without --json and --claim, got both; python -m theory --claim ID "
            "--json has its numbers"
        )
    return words[1:]


def _verify(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    from theory.suite import claim, claims, summarise, verify_all

    only = chosen(options)
    if options.list:
        from theory.explain import print_claims

        print_claims(claims() if only is None else [claim(one) for one in only])
        return 0
    for one in only or ():
        claim(one)  # an unknown id is told before anything is computed
    problems = problems_of(options)
    results = verify_all(options.seed, problems=problems, only=only)
    if options.figures is not None:
        from landscape.cli.guard import leaving
        from theory.figures import draw_figures

        with leaving(f"{options.figures} holds what was drawn: the same command draws all again"):
            draw_figures(problems[0], options.figures, options.seed)
    summaries = summarise(results)
    from theory.report import print_table, to_json

    if options.words:
        from theory.explain import print_explanation

        print_explanation(summaries[0].claim, summaries[0].results)
    elif options.json:
        print(json.dumps(to_json(summaries), indent=1, allow_nan=False))
    else:
        single = len(problems) > 1 and only is not None
        print_table(summaries, instances=single)
    if any(summary.surprising for summary in summaries):
        return 1
    return 3 if any(summary.unsettled for summary in summaries) else 0


if __name__ == "__main__":
    sys.exit(main())
