"""Tables and histograms: every cell on its line, every count to be seen."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_cli.cli.tables import (
    bar,
    cell_text,
    print_histogram,
    print_table,
    size_text,
    whole_ranges,
)


def test_table_is_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(
        ["NAME", "RECORDS", "NOTE"], [["a\nb", 1_000, None], ["longer", 5, "x"], ["é", 0, True]]
    )
    assert capsys.readouterr().out.splitlines() == [
        "NAME    RECORDS  NOTE",
        "a�b       1,000  -",
        "longer        5  x",
        "é             0  yes",
    ]


def test_table_without_rows_is_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["A", "B"], [])
    assert capsys.readouterr().out == "A  B\n"


def test_histogram_is_drawn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "22")
    print_histogram({"[0, 5)": 1_000, "[5, 10]": 250, "more": 1, "none": 0})
    assert capsys.readouterr().out.splitlines() == [
        "[0, 5)   1,000  ██████",
        "[5, 10]    250  █▌",
        "more         1  ▏",
        "none         0",
    ]


@pytest.mark.parametrize(
    ("bins", "ranges"),
    [
        ({"[451, 469.9)": 1, "[469.9, 488)": 0}, {"451 to 469": 1, "470 to 487": 0}),
        ({"[0, 0.3)": 2, "[0.3, 0.6)": 0, "[0.6, 1]": 1}, {"0": 2, "1": 1}),
        ({"[-5, -2.5)": 1, "[-2.5, 0]": 2}, {"-5 to -3": 1, "-2 to 0": 2}),
        ({"[7, 7]": 3}, {"7": 3}),
        ({"[0, 1e+16]": 1}, {"[0, 1e+16]": 1}),
        ({"another form": 1}, {"another form": 1}),
        ({}, {}),
    ],
)
def test_bins_of_integers_are_ranges_of_integers(
    bins: dict[str, int], ranges: dict[str, int]
) -> None:
    assert whole_ranges(bins) == ranges


@given(
    st.lists(st.floats(-50, 50) | st.integers(-50, 50).map(float), min_size=2, unique=True),
    st.lists(st.integers(-50, 50)),
)
def test_every_integer_is_in_its_range(edges: list[float], numbers: list[int]) -> None:
    edges = sorted(edges)
    bins = {}
    for low, high in pairwise(edges):
        last = high == edges[-1]
        inside = [each for each in numbers if low <= each < high or (last and each == high)]
        bins[f"[{low!r}, {high!r}{']' if last else ')'}"] = len(inside)
    ranges = whole_ranges(bins)
    covered: list[int] = []
    for name, count in ranges.items():
        first, _, end = name.partition(" to ")
        members = range(int(first), int(end or first) + 1)
        assert count == sum(each in members for each in numbers)
        covered += members
    assert covered == [each for each in range(-50, 51) if edges[0] <= each <= edges[-1]]


@given(st.floats(0, 1), st.integers(1, 100))
def test_bar_is_as_long_as_its_share(share: float, longest: int) -> None:
    drawn = bar(share, longest)
    eighths = sum("▏▎▍▌▋▊▉█".index(each) + 1 for each in drawn)
    assert len(drawn) <= longest
    assert abs(eighths - share * longest * 8) <= 1
    assert bool(drawn) == (share > 0)


@given(st.text())
def test_cell_is_one_line(text: str) -> None:
    assert len(cell_text(text).splitlines()) == 1


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (2_600_000, "2.6 MB"), (None, "unknown")],
)
def test_size_is_readable(size: int | None, text: str) -> None:
    assert size_text(size) == text
