from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_cli.annotate.template import NAMES, Template, read_prompt
from pixano_cli.errors import UsageError


def test_names_are_filled_in() -> None:
    template = Template.parse("{file_name} is {width} x {height}: {{{labels}}}")
    assert template.names == frozenset(NAMES)
    values = {"file_name": "a/b {width}.jpg", "width": 3, "height": 2, "labels": "cat, dog"}
    assert template.fill_in(values) == "a/b {width}.jpg is 3 x 2: {cat, dog}"


@given(st.text(min_size=1).filter(str.strip))
def test_text_without_names_stays_as_it_is(text: str) -> None:
    escaped = text.replace("{", "{{").replace("}", "}}")
    template = Template.parse(escaped)
    assert template.names == frozenset()
    assert template.fill_in({}) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("  \n", "empty"),
        ("{", "odd brace"),
        ("one } more", "odd brace"),
        ("{}", "names {}"),
        ("{name}", "names {name}"),
        ("{width.real}", "names {width.real}"),
        ("{labels[0]}", "names {labels[0]}"),
        ("{width:>99999999}", "names {width}"),
        ("{file_name!r}", "names {file_name}"),
    ],
)
def test_what_is_no_prompt(text: str, says: str) -> None:
    with pytest.raises(UsageError) as error:
        Template.parse(text)
    assert says in str(error.value)


def test_prompt_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_bytes("\ufeffWhat is on\nthis pâture?\n".encode())
    assert read_prompt(path) == "What is on\nthis pâture?"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_prompt(path)
    with pytest.raises(UsageError, match="no such file"):
        read_prompt(tmp_path / "absent.txt")
