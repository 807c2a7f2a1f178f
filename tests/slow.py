"""When the slow suite last ran: recorded by ``make slow``, shown by every run of the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from landscape.folders import provenance, read_json, write_json

RECORD = Path(__file__).with_name("slow.json")
COUNTS = ("passed", "failed", "skipped", "error")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Record a run of the whole slow suite, and tell when the last one was."""
    found = {name: len(terminalreporter.stats.get(name, [])) for name in COUNTS}
    whole = config.args_source == pytest.Config.ArgsSource.TESTPATHS and not config.option.keyword
    if config.option.markexpr == "slow" and whole and any(found.values()):
        traced = provenance()
        kept = {key: traced[key] for key in ("date", "commit", "device")}
        write_json(RECORD, found | kept)
    if not RECORD.exists():
        terminalreporter.write_line("the slow suite has not run yet: make slow")
        return
    last = read_json(RECORD)
    counts = ", ".join(f"{last[name]} {name}" for name in COUNTS if last[name])
    terminalreporter.write_line(
        f"slow suite (make slow): {counts} on {last['date'][:10]} at {str(last['commit'])[:9]}"
    )
