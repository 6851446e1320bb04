"""Names made into paths that are safe to unpack anywhere."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pixano_cli.inference_store.safe_paths import LONGEST_PATH, Paths, safe_path

odd = st.text(st.sampled_from('aA.éÉ/\\ :*"<>|?~2\0\n\u202e\udce9\U0001f600'))
names = st.text() | odd | st.lists(odd).map("/".join) | odd.map(lambda text: text * 300)


@given(names)
@example("../../x")
@example("/etc/passwd")
@example("C:\\x")
@example("\\\\host\\share\\x")
@example("a\0b")
@example("x" * 5000)
@example("/".join("x" * 2500))
@example("é" * 2500 + ".jpg")
@example("...")
@example("a/../b")
@example("~/x")
def test_a_safe_path_leads_down_and_can_be_written_anywhere(name: str) -> None:
    path = safe_path(name)
    encoded = path.encode()
    assert 0 < len(encoded) <= LONGEST_PATH
    assert not PurePosixPath(path).is_absolute()
    windows = PureWindowsPath(path)
    assert not windows.is_absolute()
    assert windows.drive == ""
    assert windows.parts == PurePosixPath(path).parts == tuple(path.split("/"))
    for part in path.split("/"):
        assert 0 < len(part.encode()) <= 255
        assert part.strip(".")
        assert part[-1] not in ". "
        assert part[0] != " "
        assert not any(
            each in '<>:"|?*\\' or unicodedata.category(each) in ("Cc", "Cs") for each in part
        )
        assert part.partition(".")[0].upper() not in ("CON", "PRN", "AUX", "NUL", "COM1", "LPT9")
    assert safe_path(path) == path


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("cats/one.jpg", "cats/one.jpg"),
        ("Ångström (1).jpeg", "Ångström (1).jpeg"),
        ("../../x", ".._/.._/x"),
        ("/etc/passwd", "etc/passwd"),
        ("C:\\x", "C__x"),
        ("a//b/./c", "a/b/c"),
        ("", "unnamed"),
        ("///", "unnamed"),
        ("a\0b\n", "a_b_"),
        ("nul.txt", "_nul.txt"),
        ("COM1", "_COM1"),
        ("ends. ", "ends._"),
        (".hidden", ".hidden"),
        ("caf\udce9.jpg", "caf_.jpg"),
    ],
)
def test_what_is_safe_stays(name: str, path: str) -> None:
    # `..` becomes `._`: its last dot is replaced.
    assert safe_path(name) == path.replace(".._", "._")


def test_long_names_keep_their_beginning_and_suffix() -> None:
    path = safe_path("x" * 5000 + ".jpg")
    assert path.startswith("x" * 150)
    assert path.endswith(".jpg")
    assert path != safe_path("x" * 4999 + "y.jpg")
    assert safe_path("/".join(["folder"] * 700) + "/one.jpg").endswith("/one.jpg")


def same(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())


@given(st.lists(names, max_size=30))
@example(["a", "a/b", "a/b/c", "a~2", "a~2/b", "A/B"])
@example(["a/b", "a", "a", "A", "a~2", "a"])
@example(["é", "e\u0301", "É"])
def test_no_two_files_have_one_path(given_names: list[str]) -> None:
    with Paths("inputs") as paths:
        got = [paths.give(name) for name in given_names]
    assert all(path.startswith("inputs/") for path in got)
    files = [same(path) for path in got]
    assert len(set(files)) == len(files)
    folders = {
        file.rsplit("/", depth)[0] for file in files for depth in range(1, file.count("/") + 1)
    }
    assert not folders & set(files)
    with Paths("inputs") as again:
        assert [again.give(name) for name in given_names] == got


@given(st.lists(st.sampled_from(["a", "b/c", "B/c", "b", "c.jpg", "c~2.jpg"]), max_size=20))
def test_a_name_given_once_keeps_its_path(given_names: list[str]) -> None:
    with Paths("") as paths:
        got = [paths.give(name) for name in given_names]
    if given_names:
        assert got[0] == given_names[0]


def test_many_files_of_one_name() -> None:
    with Paths("") as paths:
        got = [paths.give("x.jpg") for _ in range(20_000)]
    assert got[:3] == ["x.jpg", "x~2.jpg", "x~3.jpg"]
    assert len(set(got)) == 20_000
