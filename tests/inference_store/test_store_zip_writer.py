"""Zip files, read again by Python's own zipfile."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_cli.inference_store import zip_writer
from pixano_cli.inference_store.zip_writer import ZipWriter

Content = list[tuple[str, bytes, bool]]

names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
contents = st.lists(
    st.tuples(names, st.binary() | st.binary().map(lambda each: each * 50), st.booleans()),
    unique_by=lambda each: each[0],
    max_size=8,
)


def write(path: Path, content: Content, streamed: bytes) -> bytes:
    with ZipWriter(path) as out:
        for name, data, compress in content:
            out.add(name, data, compress=compress)
        for compress in (True, False):
            name = f"/streamed-{compress}"
            out.add_stream(name, io.BytesIO(streamed), len(streamed), compress=compress)
    return path.read_bytes()


def check(path: Path, content: Content, streamed: bytes) -> None:
    written = {name: data for name, data, _ in content} | {
        f"/streamed-{compress}": streamed for compress in (True, False)
    }
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == list(written)
        for each in archive.infolist():
            assert archive.read(each) == written[each.filename]
            assert each.file_size == len(written[each.filename])
            assert each.date_time == (1980, 1, 1, 0, 0, 0)
            assert each.external_attr >> 16 == 0o100644
            assert not each.is_dir() or each.filename.endswith("/")


@given(contents, st.binary(max_size=5000))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, content: Content, streamed: bytes
) -> None:
    path = tmp_path_factory.mktemp("zip") / "a.zip"
    first = write(path, content, streamed)
    check(path, content, streamed)
    assert write(path, content, streamed) == first


@given(contents, st.binary(max_size=5000), st.integers(0, 2000), st.integers(0, 5))
def test_numbers_that_do_not_fit_are_written_wide(
    tmp_path_factory: pytest.TempPathFactory,
    content: Content,
    streamed: bytes,
    largest_32: int,
    largest_16: int,
) -> None:
    """As if 32 and 16 bits held less: what needs more has to be in the fields of ZIP64."""
    path = tmp_path_factory.mktemp("zip") / "a.zip"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zip_writer, "_fits_32", lambda number: number < largest_32)
        patch.setattr(zip_writer, "_fits_16", lambda number: number < largest_16)
        write(path, content, streamed)
    check(path, content, streamed)


def test_more_entries_than_16_bits_count(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    count = 70_000
    with ZipWriter(path) as out:
        for index in range(count):
            out.add(f"{index}", b"", compress=False)
    with zipfile.ZipFile(path) as archive:
        assert len(archive.namelist()) == count
        assert archive.read("69999") == b""


def test_an_entry_beyond_4_gib(tmp_path: Path) -> None:
    """The file has a hole in place of what stands before the last entry."""
    path = tmp_path / "far.zip"
    with ZipWriter(path) as out:
        out.add("near", b"near", compress=False)
        out._out.seek(5 << 30)
        out.add("far", b"far", compress=False)
    with zipfile.ZipFile(path) as archive:
        assert archive.read("near") == b"near"
        assert archive.read("far") == b"far"
    path.unlink()


def test_compression_is_kept_only_where_it_helps(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with ZipWriter(path) as out:
        out.add("zeros", bytes(1000), compress=True)
        out.add("short", b"ab", compress=True)
        out.add("stored", bytes(1000), compress=False)
    with zipfile.ZipFile(path) as archive:
        methods = {each.filename: each.compress_type for each in archive.infolist()}
    assert methods == {"zeros": 8, "short": 0, "stored": 0}


def test_nothing_is_ended_after_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"

    def fail() -> None:
        with ZipWriter(path) as out:
            out.add("a", b"a", compress=False)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not zipfile.is_zipfile(path)
