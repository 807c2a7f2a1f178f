"""The ledger: every claim of both papers in one table, with what our rows say of it.

Its text is a function of the claims, the published rows, the verifications and `theory`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.claims.claim import Claim
from experiments.kit.judge import Finding
from experiments.kit.published import HERE, RESULTS, file_of, folder_of, is_published
from experiments.kit.records import Row
from experiments.kit.view import Artefact
from experiments.verified import Verification, verifications

LEDGER = HERE / "LEDGER.md"
PRESET = "local"
#: verdict of a claim -> what the table begins with
SIGNS = {
    "reproduced": "✓", "holds": "✓", "partly": "◐", "not reproduced": "✗", "violated": "✗",
    "undecided": "?", "vacuous": "?", "unsettled": "?", "not run yet": "…", "untestable here": "-",
    "slip": "!",
}  # fmt: skip
HEAD = """# The claims of both papers, and what our runs say of them

Written by `python -m experiments ledger` from the published rows; do not edit. A claim is
reproduced where all its statements hold, partly where some do; what is said of each of several,
such as every ratio, is one statement, and fails with one of them. A statement is decided where its
95 % interval over seeds lies on one side, and those of one artefact that say that one arm is above
another are adjusted for being several; those against a threshold, of exponents or of several
statements at once are not, as the artefact's table says. Intervals speak of the models and tasks
that were run; a verdict that is "so far" is of an artefact some of whose runs are still missing,
and the summary counts these once more, in brackets. The tests behind an interval, and the cells
that it leaves out, stand in the artefact's table.
Theorems hold or are violated on the instances that `python -m theory` draws. A slip is a misprint
or a contradiction in a text, said in the row.
`python -m experiments verify CLAIM --fresh-seeds 3` judges a row again with seeds that nobody has
used.
"""


@dataclass(frozen=True)
class Entry:
    """Hold a row of the ledger: a claim, its verdict, and the numbers behind it.

    Args:
        lacking: of its artefact's runs, how many are there, if some are missing.
    """

    claim: Claim
    verdict: str
    ours: str
    link: str
    lacking: str = ""

    @property
    def word(self) -> str:
        """Return the verdict without what is said beside it."""
        return self.verdict.split(":")[0]

    def line(self) -> dict[str, str]:
        """Return the row's cells."""
        sign, so_far = SIGNS[self.word], ", so far" * bool(self.lacking)
        return {
            "claim": f"`{self.claim.id}`", "says": self.claim.says,
            "where": self.claim.place, "the paper": self.claim.printed or "-",
            "ours": self.ours or "-", "verdict": f"{sign} {self.verdict}{so_far}",
            "artefact": self.link,
        }  # fmt: skip


def text_of(
    papers: Mapping[str, Sequence[Claim]], artefacts: Mapping[str, Artefact],
    results: Path = RESULTS,
) -> str:  # fmt: skip
    """Return the text of the ledger."""
    from landscape.figures.table import format_table

    judged = entries([c for claims in papers.values() for c in claims], artefacts, results)
    by_claim = {entry.claim.id: entry for entry in judged}
    words = [word for word in SIGNS if any(word == entry.word for entry in judged)]
    summary = [
        {"claims": paper[0].upper() + paper[1:], "all": str(len(claims))}
        | {word: _counted([by_claim[c.id] for c in claims], word) for word in words}
        for paper, claims in papers.items()
    ]
    parts = [HEAD.rstrip(), format_table(summary, left=["claims"])]
    lacking = {entry.claim.artefact: entry.lacking for entry in judged if entry.lacking}
    if lacking:
        listed = "\n".join(f"- `{name}`: {there}" for name, there in lacking.items())
        parts.append(f"Runs at chosen rates that are there, where some are missing:\n\n{listed}")
    for paper, claims in papers.items():
        lines = [by_claim[c.id].line() for c in claims]
        parts.append(
            f"## {paper[0].upper()}{paper[1:]}\n\n{format_table(lines, left=list(lines[0]))}"
        )
    return "\n\n".join(parts) + "\n"


def write(
    papers: Mapping[str, Sequence[Claim]], artefacts: Mapping[str, Artefact],
    results: Path = RESULTS, path: Path = LEDGER,
) -> Path:  # fmt: skip
    """Write the ledger; return its path."""
    from landscape.folders import write_whole

    text = text_of(papers, artefacts, results)
    write_whole(path, lambda draft: draft.write_text(text, encoding="utf-8"))
    return path


def entries(
    claims: Sequence[Claim], artefacts: Mapping[str, Artefact], results: Path = RESULTS
) -> list[Entry]:
    """Judge claims, in their order."""
    rows = _rows(results)
    findings = _findings({c.artefact for c in claims if c.artefact}, artefacts, rows)
    there = {name: artefacts[name].there(rows, PRESET) for name in findings}
    lacking = {name: f"{n} of {expected}" for name, (n, expected) in there.items() if n < expected}
    theory = _theory([c.theory for c in claims if c.theory])
    again = verifications(results)
    return [
        _so_far(_entry(claim, artefacts, findings, theory, again.get(claim.id, []), results),
                lacking.get(claim.artefact, ""))
        for claim in claims
    ]  # fmt: skip


def verdict_of(findings: Sequence[Finding]) -> str:
    """Return what several statements make of a claim.

    >>> from experiments.kit.judge import Finding as F
    >>> verdict_of([F("", "holds", ""), F("", "undecided", "")])
    'partly: 1 of 2'
    >>> verdict_of([F("", "undecided", "", needs=12)]), verdict_of([F("", "fails", "")])
    ('undecided: needs about 12 seeds', 'not reproduced')
    >>> verdict_of([F("", "undecided", "", needs=12), F("", "undecided", "")])  # no number settles
    'undecided'
    """
    held = sum(f.verdict == "holds" for f in findings)
    if held == len(findings):
        return "reproduced"
    if held:
        return f"partly: {held} of {len(findings)}"
    if any(f.verdict == "fails" for f in findings):
        return "not reproduced"
    needs = [f.needs for f in findings]
    known = [n for n in needs if n is not None]
    return f"undecided: needs about {max(known)} seeds" if known == needs else "undecided"


def _counted(entries: Sequence[Entry], word: str) -> str:
    """Count the entries of a verdict, and those of them that are so far."""
    own = [entry for entry in entries if entry.word == word]
    so_far = sum(bool(entry.lacking) for entry in own)
    return f"{len(own)} ({so_far} so far)" if so_far else str(len(own) or "")


def _so_far(entry: Entry, lacking: str) -> Entry:
    """Say of an entry that some of its artefact's runs are missing."""
    return entry if entry.verdict == "not run yet" else replace(entry, lacking=lacking)


def _entry(
    claim: Claim, artefacts: Mapping[str, Artefact], findings: Mapping[str, Mapping[str, Finding]],
    theory: Mapping[str, tuple[str, str]], again: Sequence[Verification], results: Path,
) -> Entry:  # fmt: skip
    if claim.misprint:
        return Entry(claim, "slip", claim.misprint, "-")
    if claim.untestable:
        return Entry(claim, "untestable here", claim.untestable, "-")
    if claim.theory:
        verdict, said = theory[claim.theory]
        said = "; ".join([said, *(one.sentence() for one in again)])
        return Entry(claim, verdict, said, "[`theory`](../theory/NOTES.md)")
    artefact = artefacts[claim.artefact]
    if claim.artefact not in findings or not is_published(artefact, PRESET, results):
        return Entry(claim, "not run yet", "", f"`{claim.artefact}`")
    judged = [findings[claim.artefact][name] for name in claim.statements]
    fresh = [one.sentence(claim.statements) for one in again if one.preset == PRESET]
    said = "; ".join(f"{f.verdict}, {f.short}" if len(judged) > 1 else f.short for f in judged)
    said = "; ".join(filter(None, [said, *fresh]))
    view = folder_of(artefact, PRESET, results).relative_to(results.parent).as_posix()
    return Entry(claim, verdict_of(judged), said, f"[`{claim.artefact}`]({view}/table.md)")


def _rows(results: Path) -> list[Row]:
    """Read the published rows."""
    from landscape.sweep.published import read_rows

    path = file_of(PRESET, results)
    return list(read_rows(path).rows()) if path.exists() else []


def _findings(
    names: set[str], artefacts: Mapping[str, Artefact], rows: Sequence[Row]
) -> dict[str, dict[str, Finding]]:
    """Judge the statements of artefacts that have published rows."""
    found: dict[str, dict[str, Finding]] = {}
    for name in sorted(names & artefacts.keys()):
        one = artefacts[name]
        if PRESET in one.presets and (used := one.used(rows, PRESET)):
            found[name] = one.findings(one.records(used, one.of(PRESET)))
    return found


def _theory(ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Examine theorems on the small instances of the default suite: verdict and numbers."""
    from theory.suite import default_problems, summarise, verify_all

    if not ids:
        return {}
    found: dict[str, tuple[str, str]] = {}
    for summary in summarise(verify_all(problems=default_problems()[1:], only=ids)):
        lead = summary.lead
        counted = ", ".join(f"{n} {verdict}" for verdict, n in summary.counts.items())
        said = (
            f"{lead.finding.quantity}: {lead.finding.prediction:.3g} predicted, "
            f"{lead.finding.measurement:.3g} found ({lead.finding.method}, {lead.instance}); "
            f"{counted} of {len(summary.results)} instances"
        )
        found[summary.claim.id] = (summary.verdict, said)
    return found
