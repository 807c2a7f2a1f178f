"""Run ``lm_eval`` with the model ``landscape``: ``python -m landscape.harness --model landscape``.

The arguments are those of ``lm_eval``; a user's mistake is one sentence, its exit code 2.
"""

from __future__ import annotations

import sys

from landscape.cli.guard import DONE, guarded
from landscape.harness import register
from landscape.sources.carriers import optional


def _run(arguments: list[str]) -> int:
    register()
    sys.argv[1:] = arguments
    optional("lm_eval.__main__").cli_evaluate()
    return DONE


if __name__ == "__main__":
    sys.exit(guarded(_run))
