"""URLs stand for paths and back, and held bytes are not read again."""

from __future__ import annotations

import base64
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_cli.errors import MediaReadError
from pixano_cli.media.flight import hold, path_of, read_url, url_of

names = st.binary(min_size=1, max_size=40).filter(
    lambda name: b"\0" not in name and b"/" not in name and name not in (b".", b"..")
)


@given(st.lists(names, min_size=1, max_size=4))
def test_any_path_comes_back(parts: list[bytes]) -> None:
    path = Path("/", *map(os.fsdecode, parts))
    url = url_of(path)
    assert url.isascii()
    assert url.isprintable()
    assert url.startswith("file:///")
    assert path_of(url) == path
    assert os.fsencode(path_of(url)) == os.fsencode(path)


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert path_of(url_of(Path("a/../b c.jpg"))) == tmp_path / "a/../b c.jpg"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///a%20b/c.jpg", "/a b/c.jpg"),
        ("FILE://localhost/a.jpg", "/a.jpg"),
        ("file:////a.jpg", "//a.jpg"),
        ("file:///100%.jpg", "/100%.jpg"),
    ],
)
def test_urls_of_others(url: str, path: str) -> None:
    assert path_of(url) == Path(path)


@pytest.mark.parametrize("url", ["", "file:", "file://host/a.jpg", "http://a/b", "/a/b", "file://"])
def test_no_file_of_this_machine(url: str) -> None:
    with pytest.raises(MediaReadError, match="not the URL of a file on this machine"):
        path_of(url)


class TestHold:
    def test_held_bytes_are_read_and_then_let_go(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jpg"
        url = url_of(path)
        with hold(url, b"held"):
            assert read_url(url) == b"held"
        with pytest.raises(MediaReadError, match="no such file"):
            read_url(url)
        path.write_bytes(b"on disk")
        assert read_url(url) == b"on disk"

    def test_it_may_be_held_several_times(self) -> None:
        url = "file:///nowhere/a.jpg"
        first, second = b"first", bytes(b"first"[:])
        with hold(url, first):
            with hold(url, second):
                assert read_url(url) == b"first"
            assert read_url(url) is first
            with hold(url, b"later"):
                assert read_url(url) == b"later"
            assert read_url(url) is first
        with pytest.raises(MediaReadError):
            read_url(url)

    def test_an_error_lets_go(self) -> None:
        url = "file:///nowhere/b.jpg"
        with pytest.raises(ZeroDivisionError), hold(url, b"x"):
            raise ZeroDivisionError
        with pytest.raises(MediaReadError):
            read_url(url)

    def test_from_many_threads(self) -> None:
        barrier = threading.Barrier(8)

        def use(number: int) -> None:
            barrier.wait()
            for turn in range(300):
                url = f"file:///nowhere/{turn % 5}.jpg"
                with hold(url, b"%d" % (turn % 5)):
                    assert read_url(url) == b"%d" % (turn % 5)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(use, range(8)))
        with pytest.raises(MediaReadError):
            read_url("file:///nowhere/0.jpg")


class TestDataUrls:
    @given(st.binary())
    def test_base64(self, data: bytes) -> None:
        text = base64.b64encode(data).decode()
        assert read_url("data:image/png;base64," + text) == data
        assert read_url("data:;BASE64," + text.replace("+", "%2B").replace("=", "%3D")) == data
        assert read_url("data:image/png;base64," + "\n".join(text)) == data

    def test_percent_encoded(self) -> None:
        assert read_url("data:text/plain,a%20b,c") == b"a b,c"

    @pytest.mark.parametrize("url", ["data:image/png;base64,abc", "data:;base64,a_b-", "data:x"])
    def test_not_valid(self, url: str) -> None:
        with pytest.raises(MediaReadError, match="not a valid data URL"):
            read_url(url)


@pytest.mark.parametrize(
    "url", ["http://example.org/a.jpg", "https://x/" + "y" * 500, "s3://a/b", "a.jpg", "", "C:\\a"]
)
def test_nothing_else_is_read(url: str) -> None:
    with pytest.raises(MediaReadError, match=r"only file:// and data: URLs") as caught:
        read_url(url)
    assert len(str(caught.value)) < 200
