"""The parts of asking over HTTP: keys, addresses, times to wait, and what servers say."""

import copy
import json
import pickle
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_cli.errors import UsageError
from pixano_cli.inference.providers.http import base_url
from pixano_cli.inference.providers.keys import ApiKey, find_key
from pixano_cli.inference.providers.refusals import saying, shown
from pixano_cli.inference.providers.retries import retry_after

KEY = "sk-planted-0123456789abcdef"


def test_a_key_does_not_show() -> None:
    key = ApiKey(KEY, "the environment variable OUR_KEY")
    written = [repr(key), str(key), f"{key}", f"{key!r:>90}", repr([key])]
    assert not any(KEY in each for each in written)
    assert "OUR_KEY" in repr(key)
    for copied in (pickle.dumps, copy.copy, copy.deepcopy, json.dumps, vars):
        with pytest.raises(TypeError):
            copied(key)
    assert key.reveal() == KEY


def test_key_of_the_environment_or_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OUR_KEY", raising=False)
    assert find_key("OUR_KEY") is None
    monkeypatch.setenv("OUR_KEY", " \n")
    assert find_key("OUR_KEY") is None
    monkeypatch.setenv("OUR_KEY", f"{KEY}\n")
    found = find_key("OUR_KEY")
    assert found is not None
    assert (found.reveal(), found.source) == (KEY, "the environment variable OUR_KEY")
    file = tmp_path / "key"
    file.write_text("other-key\r\n")
    found = find_key("OUR_KEY", file)
    assert found is not None
    assert (found.reveal(), found.source) == ("other-key", f"the file {str(file)!r}")


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"two lines\n", KEY.encode() + b"\nX: y", b"k\xc3\xa9y", b"x" * 20_000]
)
def test_what_is_no_key_is_refused_without_being_shown(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(UsageError) as raised:
        find_key("OUR_KEY", file)
    assert str(file) in str(raised.value)
    assert KEY not in str(raised.value)
    with pytest.raises(UsageError, match="no such file"):
        find_key("OUR_KEY", tmp_path / "none")
    with pytest.raises(UsageError, match="is a directory"):
        find_key("OUR_KEY", tmp_path)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("http://h:7463", "http://h:7463"),
        ("http://h:7463/", "http://h:7463"),
        ("https://h/a/b/", "https://h/a/b"),
        ("http://[::1]:80/x", "http://[::1]/x"),
        ("HTTP://Host", "http://host"),
    ],
)
def test_url_of_a_server(given: str, wanted: str) -> None:
    assert base_url(given) == wanted


def test_path_of_a_server_that_has_none() -> None:
    assert base_url("http://h:1/", "/v1") == "http://h:1/v1"
    assert base_url("http://h:1/api", "/v1") == "http://h:1/api"


@pytest.mark.parametrize(
    "given",
    [
        "",
        "h:7463",
        "localhost",
        "ftp://h",
        "http://",
        "http://h:port",
        "http://user:secret@h",
        "http://secret@h/",
        "http://h/?key=secret",
        "http://h/#secret",
        "user:secret@h",
    ],
)
def test_url_of_no_server(given: str) -> None:
    with pytest.raises(UsageError) as raised:
        base_url(given)
    assert "secret" not in str(raised.value)


@given(st.integers(0, 10**6), st.sampled_from(["{}", " {} ", "0{}"]))
def test_retry_after_in_seconds(seconds: int, form: str) -> None:
    assert retry_after(form.format(seconds)) == seconds


@given(st.integers(-(10**6), 10**6))
def test_retry_after_as_a_date(seconds: int) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=seconds)
    wait = retry_after(format_datetime(moment, usegmt=True))
    assert wait is not None
    assert wait == pytest.approx(max(0, seconds), abs=5)


@given(st.text())
def test_retry_after_that_says_nothing(header: str) -> None:
    wait = retry_after(header)
    assert wait is None or wait >= 0


def test_no_retry_after() -> None:
    assert retry_after(None) is None
    assert retry_after("-1") is None
    assert retry_after("9" * 400) == float("inf")


PARTS = st.sampled_from(
    [KEY, KEY.upper(), "\x1b[2J", "\n", "\r", "\0", "é", "\u202e", " ", "x" * 99]
)


def test_a_key_is_blotted_out_wherever_it_stands() -> None:
    key = ApiKey("a/b+c=d", "a file")
    said = "a/b+c=d, again a/b+c=d, and in an address a%2Fb%2Bc%3Dd"
    assert shown(said, key) == "[API key], again [API key], and in an address [API key]"


@given(st.lists(PARTS | st.text()).map("".join))
def test_what_is_shown_is_one_line_without_the_key(said: str) -> None:
    line = shown(said, ApiKey(KEY, "a file"))
    assert KEY not in line
    assert len(line) <= 300
    assert line.isprintable()
    assert shown(line, None) == line


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"error": {"code": "not_found", "message": "Model 'x' not found"}}, "Model 'x' not found"),
        ({"error": "invalid input type"}, "invalid input type"),
        ({"detail": "Not Found"}, "Not Found"),
        ({"object": "error", "message": "The model does not exist."}, "The model does not exist."),
        (
            {
                "error": {
                    "message": [{"loc": ["body", "image"], "msg": "Field required", "input": "z"}]
                }
            },
            "body.image: Field required",
        ),
        ({"detail": [{"loc": ["body"], "msg": "a"}, {"msg": "b"}]}, "body: a; b"),
        ({"other": 1}, ""),
        ([], ""),
        (None, ""),
        (17, ""),
    ],
)
def test_what_a_server_says(body: Any, told: str) -> None:
    assert saying(json.dumps(body).encode(), None) == told


@given(st.binary())
def test_anything_can_be_said(body: bytes) -> None:
    assert saying(body, None).isprintable()


def test_text_and_pages_that_are_said() -> None:
    assert saying(b"upstream  down\n", None) == "upstream down"
    assert saying(b" <html><body>502 Bad Gateway", None) == ""
    assert saying(b'{"error": {"mess', None) == ""
