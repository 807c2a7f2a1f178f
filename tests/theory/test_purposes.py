"""The streams of one seed: a number for each purpose, and no draw that two of them share."""

from __future__ import annotations

from landscape import seeds
from theory import purposes

PURPOSES = {name: value for name, value in vars(purposes).items() if name.isupper()}


def test_no_two_purposes_share_a_number_or_a_stream() -> None:
    assert sorted(PURPOSES.values()) == list(range(1, len(PURPOSES) + 1))
    firsts = {seeds.numbered(0, number).random() for number in PURPOSES.values()}
    assert len(firsts) == len(PURPOSES)
