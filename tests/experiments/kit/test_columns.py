"""Tables: one line a group, columns as texts computed by hand."""

from __future__ import annotations

from experiments.kit import columns
from experiments.kit.columns import Table


def records(**values: list) -> list[dict]:
    """Return records by columns."""
    return [dict(zip(values, line, strict=True)) for line in zip(*values.values(), strict=True)]


def test_a_table_has_one_line_a_group_in_the_order_of_the_records() -> None:
    found = records(arm=["b", "b", "a"], ratio=[1e-3, 1e-3, None], test=[0.5, 0.7, 0.9])
    table = Table(
        by=("arm", "ratio"), columns={"n": columns.seeds(), "t": columns.mean_std("test")}
    )
    assert table.lines(found) == [
        {"arm": "b", "ratio": "0.001", "n": "2", "t": "0.600 ± 0.141"},
        {"arm": "a", "ratio": "-", "n": "1", "t": "0.900"},
    ]


def test_values_of_a_coordinate_lie_side_by_side_and_what_is_missing_is_a_dash() -> None:
    found = records(arm=["a", "a", "b"], task=["x", "y", "x"], test=[0.5, 0.25, 1.0])
    one = Table(by=("arm",), across="task", columns={"t": columns.first("test")})
    assert one.lines(found) == [
        {"arm": "a", "x": "0.5", "y": "0.25"}, {"arm": "b", "x": "1", "y": "-"},
    ]  # fmt: skip
    two = Table(by=("arm",), across="task", columns={"t": columns.first("test"),
                                                     "n": columns.seeds()})  # fmt: skip
    assert list(two.lines(found)[0]) == ["arm", "x, t", "x, n", "y, t", "y, n"]
    numbers = Table(by=("arm",), across="mask_seed", columns={"n": columns.seeds()})
    seeded = records(arm=["a", "a"], mask_seed=[100, 1000])
    assert list(numbers.lines(seeded)[0]) == ["arm", "mask seed 100", "mask seed 1,000"]


def test_a_geometric_mean_is_of_magnitudes_and_names_zeros() -> None:
    write = columns.geometric("s")
    assert write(records(s=[1.0, -10.0, 100.0])) == "10 ×÷ 10"
    assert write(records(s=[4.0, 0.0])) == "4 (1 of them 0)"
    assert write(records(s=[None])) == "-"


def test_a_mean_over_fewer_runs_than_the_line_has_says_how_many() -> None:
    found = records(s=[1.0, None, 100.0])
    assert columns.geometric("s")(found) == "10 ×÷ 26 (2 of 3)"
    assert columns.mean_std("s", ".1f")(found) == "50.5 ± 70.0 (2 of 3)"
    assert columns.geometric("s")(found[:1]) == "1"


def test_a_rate_at_the_edge_of_those_tried_has_a_star() -> None:
    found = records(lr=[0.1, 0.1, 0.3], edge=["", "", "highest"])
    assert columns.rate()(found[:2]) == "0.1"
    assert columns.rate()(found) == "0.1, 0.3*"


def test_a_share_counts_records_that_have_the_value() -> None:
    assert columns.share("ok")(records(ok=[True, False, None])) == "1 of 2"


def test_a_papers_number_that_is_missing_is_a_dash() -> None:
    assert columns.paper(lambda r: {"a": 0.873}.get(r["arm"]))([{"arm": "a"}]) == "0.873"
    assert columns.paper(lambda r: {"a": 0.873}.get(r["arm"]))([{"arm": "b"}]) == "-"
