"""Tables and histograms: every cell on its line, every count to be seen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_cli.cli.tables import bar, cell_text, print_histogram, print_table, size_text


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
