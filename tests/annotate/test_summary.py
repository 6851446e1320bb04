"""How many failures are allowed."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_cli.annotate.summary import MaxFailures
from pixano_cli.errors import UsageError


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_a_number_allows_that_many(allowed: int, failed: int) -> None:
    assert MaxFailures.parse(str(allowed)).allows(failed, 1000) == (failed <= allowed)
    assert MaxFailures.parse(allowed).allows(failed, 1000) == (failed <= allowed)


@given(st.integers(0, 100), st.integers(0, 1000), st.integers(1, 1000))
def test_a_percentage_is_of_all_files(percent: int, failed: int, total: int) -> None:
    wanted = Fraction(failed, total) <= Fraction(percent, 100)
    assert MaxFailures.parse(f"{percent}%").allows(failed, total) == wanted


@pytest.mark.parametrize("text", ["", "-1", "x", "101%", "1.5", "5 0", "%", "nan%", "1e3"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--max-failures"):
        MaxFailures.parse(text)
