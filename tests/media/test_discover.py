"""Every source finds what it names, once, in order, under a name that stays the same."""

from __future__ import annotations

import glob
import io
import itertools
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixano_cli.errors import MediaReadError, UsageError
from pixano_cli.media.discover import SourceFile, discover
from pixano_cli.media.identity import read_file

from .pictures import encoded, photograph

PNG = encoded(photograph(), "PNG")
Touch = Callable[..., Path]


@pytest.fixture
def touch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Touch:
    """Make files below a new current folder."""
    monkeypatch.chdir(tmp_path)

    def make(*names: str, content: bytes = b"") -> Path:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return tmp_path

    return make


def names(*sources: str, recursive: bool = True, stdin: str | bytes | None = None) -> list[str]:
    return [file.file_name for file in find(*sources, recursive=recursive, stdin=stdin)]


def find(
    *sources: str, recursive: bool = True, stdin: str | bytes | None = None
) -> list[SourceFile]:
    text: io.TextIOBase | None = None
    if isinstance(stdin, bytes):
        text = io.TextIOWrapper(io.BytesIO(stdin), encoding="ascii")
    elif stdin is not None:
        text = io.StringIO(stdin)
    found = list(discover(sources, recursive=recursive, stdin=text))  # type: ignore[arg-type]
    unique = {file.file_name for file in found}
    assert len(unique) == len(found)
    assert all(file.path.is_absolute() for file in found)
    assert all(name.encode() for name in unique)
    return found


def usage_error(*sources: str, stdin: str | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        next(discover(sources, stdin=None if stdin is None else io.StringIO(stdin)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestFile:
    def test_it_is_named_by_its_name(self, touch: Touch) -> None:
        root = touch("photos/a.jpg", content=b"12345")
        status = (root / "photos/a.jpg").stat()
        assert find("photos/a.jpg") == [
            SourceFile("a.jpg", root / "photos/a.jpg", "photos", 5, status.st_mtime_ns)
        ]
        assert find(str(root / "photos/a.jpg"))[0].root == str(root / "photos")
        os.chdir("photos")
        assert find("a.jpg")[0].root == "."

    def test_it_counts_whatever_it_is(self, touch: Touch) -> None:
        root = touch("notes.txt", ".hidden", "-")
        os.mkfifo(root / "pipe")
        (root / "dangling").symlink_to("nowhere")
        assert names("notes.txt", ".hidden", "./-", "pipe", "dangling") == [
            "notes.txt", ".hidden", "-", "pipe", "dangling",
        ]  # fmt: skip
        assert find("dangling")[0].size == -1

    def test_several_share_the_deepest_folder(self, touch: Touch) -> None:
        root = touch("photos/a.jpg", "photos/b.jpg", "photos/sub/c.jpg", "other/d.jpg")
        assert names("photos/b.jpg", "photos/a.jpg") == ["b.jpg", "a.jpg"]
        assert names("photos/a.jpg", "photos/sub/c.jpg") == ["a.jpg", "sub/c.jpg"]
        found = find("photos/a.jpg", str(root / "other/d.jpg"))
        assert [file.file_name for file in found] == ["photos/a.jpg", "other/d.jpg"]
        assert {file.root for file in found} == {str(root)}
        assert {file.root for file in find("photos/a.jpg", "photos/sub/c.jpg")} == {"photos"}
        os.chdir("other")
        assert {file.root for file in find("../photos/a.jpg", "d.jpg")} == {str(root)}
        assert names("../photos/a.jpg", "d.jpg") == ["photos/a.jpg", "other/d.jpg"]

    def test_a_missing_one_stops_all_before_the_first(self, touch: Touch) -> None:
        touch("a.jpg")
        assert usage_error("a.jpg", "b.jpg") == "no such file or folder: 'b.jpg'"
        assert usage_error("a.jpg/b.jpg") == "no such file or folder: 'a.jpg/b.jpg'"
        assert usage_error("new\nline.jpg") == "no such file or folder: 'new\\nline.jpg'"
        assert usage_error("nul\0.jpg").startswith("no such file or folder")
        assert usage_error("").startswith("no such file or folder")
        assert usage_error().startswith("no source given")


class TestFolder:
    def test_content_in_the_order_of_paths(self, touch: Touch) -> None:
        touch("p/b.jpg", "p/a/z.png", "p/a/a/y.GIF", "p/a.jpg", "p/a-1.jpg", "p/é.webp", "p/B.jpg")
        expected = ["B.jpg", "a-1.jpg", "a.jpg", "a/a/y.GIF", "a/z.png", "b.jpg", "é.webp"]
        assert names("p") == names("p/") == names("./p/.") == expected
        assert expected == sorted(expected)
        assert [file.root for file in find("p/")] == ["p/"] * 7
        assert names("p", recursive=False) == ["B.jpg", "a-1.jpg", "a.jpg", "b.jpg", "é.webp"]
        os.chdir("p")
        assert names(".") == expected

    def test_images_by_suffix_or_content(self, touch: Touch) -> None:
        touch("p/a.JPG", "p/b.txt", "p/c", "p/d.json", "p/e.avif", "p/short")
        touch("p/photo", "p/photo.txt", content=PNG)
        touch("p/text.tiff", content=b"text")
        (Path("p") / "folder.jpg").mkdir()
        touch("p/folder.jpg/x.dib")
        assert names("p") == [
            "a.JPG", "e.avif", "folder.jpg/x.dib", "photo", "photo.txt", "text.tiff",
        ]  # fmt: skip

    def test_hidden_names_are_passed_over(self, touch: Touch) -> None:
        touch("p/.a.jpg", "p/.git/b.jpg", "p/c.jpg", ".store/d.jpg")
        assert names("p") == ["c.jpg"]
        assert names(".store") == ["d.jpg"]

    def test_what_claims_to_be_an_image_is_found_but_not_opened(self, touch: Touch) -> None:
        root = touch("p/empty.jpg")
        os.mkfifo(root / "p/pipe.jpg")
        os.mkfifo(root / "p/pipe")
        (root / "p/dangling.jpg").symlink_to("nowhere")
        (root / "p/dangling").symlink_to("nowhere")
        (root / "p/loop.png").symlink_to("loop.png")
        found: list[SourceFile] = []
        # A daemon, so that one waiting on a pipe for ever does not keep the tests from ending.
        walk = threading.Thread(target=lambda: found.extend(find("p")), daemon=True)
        walk.start()
        walk.join(5)
        assert not walk.is_alive()
        assert [(file.file_name, file.size) for file in found] == [
            ("dangling.jpg", -1), ("empty.jpg", 0), ("loop.png", -1), ("pipe.jpg", 0),
        ]  # fmt: skip
        for file in found:
            if file.file_name != "empty.jpg":
                with pytest.raises(MediaReadError):
                    read_file(file.path)

    def test_odd_names(self, touch: Touch) -> None:
        odd = [
            "a b.jpg",
            "a'b\".jpg",
            "line\nbreak.jpg",
            "été/日本.jpg",
            "*.jpg",
            "%41.jpg",
            "\\.jpg",
        ]
        touch(*(f"p/{name}" for name in odd))
        raw = os.fsdecode(b"caf\xe9.jpg")
        touch(f"p/{raw}", content=b"there")
        found = find("p")
        assert {file.file_name for file in found} == {*odd, "caf\\xe9.jpg"}
        (file,) = (file for file in found if "caf" in file.file_name)
        assert read_file(file.path) == b"there"
        assert set(names("p/*.jp?")) == {file.file_name for file in found} - {"été/日本.jpg"}

    def test_it_is_lazy(self, touch: Touch) -> None:
        touch("p/a/1.jpg", "p/b/2.jpg")
        found = discover(["p"])
        assert next(found).file_name == "a/1.jpg"
        touch("p/b/3.jpg")
        assert [file.file_name for file in found] == ["b/2.jpg", "b/3.jpg"]
        late = discover(["missing"])
        with pytest.raises(UsageError):
            next(late)

    def test_an_empty_folder_is_no_mistake_here(self, touch: Touch) -> None:
        touch("p/notes.txt")
        assert names("p") == []

    @pytest.mark.skipif(os.geteuid() == 0, reason="needs a user whom permissions bind")
    def test_a_folder_that_cannot_be_listed(self, touch: Touch) -> None:
        root = touch("p/closed/a.jpg", "p/open/b.jpg")
        (root / "p/closed").chmod(0)
        try:
            closed, opened = find("p")
            assert usage_error("p/closed") == "cannot list the folder 'p/closed': permission denied"
        finally:
            (root / "p/closed").chmod(0o755)
        assert (closed.file_name, closed.size, closed.mtime_ns) == ("closed", -1, -1)
        assert opened.file_name == "open/b.jpg"

    def test_a_folder_that_vanishes_is_found_and_fails_to_be_read(self, touch: Touch) -> None:
        root = touch("p/a/1.jpg", "p/b/2.jpg", "p/c/3.jpg")
        found = discover(["p"])
        assert next(found).file_name == "a/1.jpg"
        (root / "p/b/2.jpg").unlink()
        (root / "p/b").rmdir()
        gone, last = found
        assert (gone.file_name, gone.size) == ("b", -1)
        assert last.file_name == "c/3.jpg"
        with pytest.raises(MediaReadError, match="no such file"):
            read_file(gone.path)


class TestLinks:
    def test_they_do_not_lead_out(self, touch: Touch, caplog: pytest.LogCaptureFixture) -> None:
        root = touch("p/a.jpg", "outside/b.jpg", "p2/c.jpg")
        (root / "p/file.jpg").symlink_to("../outside/b.jpg")
        (root / "p/folder").symlink_to(root / "outside")
        (root / "p/sibling").symlink_to("../p2")
        (root / "p/readme.txt").symlink_to("../outside/b.jpg")
        with caplog.at_level(logging.WARNING):
            assert names("p") == ["a.jpg"]
        (record,) = caplog.records
        assert record.getMessage().startswith("3 symbolic links lead out of ")

    def test_a_second_name_of_a_file_is_a_second_file(self, touch: Touch) -> None:
        root = touch("p/sub/a.jpg")
        (root / "p/again.jpg").symlink_to("sub/a.jpg")
        assert names("p") == ["again.jpg", "sub/a.jpg"]
        assert names("p", "p/sub") == ["p/again.jpg", "p/sub/a.jpg"]

    def test_circles_end_and_folders_come_once(self, touch: Touch) -> None:
        root = touch("p/a/1.jpg", "p/b/2.jpg")
        (root / "p/a/up").symlink_to("..")
        (root / "p/a/self").symlink_to(".")
        (root / "p/a/b").symlink_to("../b")
        (root / "p/b/a").symlink_to("../a")
        (root / "p/0").symlink_to("b")
        assert names("p") == ["a/1.jpg", "b/2.jpg"]
        assert names("p/**/*.jpg") == ["a/1.jpg", "b/2.jpg"]

    def test_into_a_hidden_folder(self, touch: Touch) -> None:
        root = touch("p/.store/x/1.jpg", "p/.store/x/y/2.jpg")
        (root / "p/.store/x/back").symlink_to("../..")
        (root / "p/data").symlink_to(".store/x")
        (root / "p/more").symlink_to(".store/x/y")
        (root / "p/one.jpg").symlink_to(".store/x/1.jpg")
        assert names("p") == ["data/1.jpg", "data/y/2.jpg", "one.jpg"]

    def test_the_source_itself_may_be_one(self, touch: Touch) -> None:
        root = touch("real/a.jpg", "real/sub/b.jpg")
        (root / "link").symlink_to("real")
        (root / "file.jpg").symlink_to("real/a.jpg")
        assert names("link") == ["a.jpg", "sub/b.jpg"]
        assert names("file.jpg") == ["file.jpg"]
        assert names("link", "real") == ["a.jpg", "sub/b.jpg"]
        assert find("link/../real/a.jpg")[0].path == root / "link/../real/a.jpg"

    def test_a_pattern_may_name_one(self, touch: Touch) -> None:
        root = touch("p/data/1.jpg", "outside/2.jpg")
        (root / "p/link").symlink_to("data")
        (root / "p/lead").symlink_to("../outside")
        assert names("p/l*/*.jpg") == ["link/1.jpg"]
        assert names("p/l*") == ["link/1.jpg"]
        assert names("p/lead/*.jpg") == ["2.jpg"]
        assert len(find("p/*")) == 1


class TestPattern:
    @pytest.fixture(autouse=True)
    def _tree(self, touch: Touch) -> None:
        touch(
            "p/a.jpg", "p/b.png", "p/x1/a.jpg", "p/x1/deep/c.jpg", "p/x2/a.jpg", "p/x2/n.txt",
            "p/.hidden/d.jpg", "p/.e.jpg",
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("p/*.jpg", ["a.jpg"]),
            ("p/?.[jp]*g", ["a.jpg", "b.png"]),
            ("p/[!a].*", ["b.png"]),
            ("p/*/a.jpg", ["x1/a.jpg", "x2/a.jpg"]),
            ("p/**/*.jpg", ["a.jpg", "x1/a.jpg", "x1/deep/c.jpg", "x2/a.jpg"]),
            ("p/**/a.jpg", ["a.jpg", "x1/a.jpg", "x2/a.jpg"]),
            ("p/**/x1/**/*.jpg", ["x1/a.jpg", "x1/deep/c.jpg"]),
            ("p/x1/**", ["a.jpg", "deep/c.jpg"]),
            ("p/**", ["a.jpg", "b.png", "x1/a.jpg", "x1/deep/c.jpg", "x2/a.jpg"]),
            ("p/x*", ["x1/a.jpg", "x1/deep/c.jpg", "x2/a.jpg"]),
            ("p/x*/", ["x1/a.jpg", "x1/deep/c.jpg", "x2/a.jpg"]),
            ("./p//x*/./a.jpg", ["x1/a.jpg", "x2/a.jpg"]),
            ("*/a.jpg", ["p/a.jpg"]),
            ("p/.*.jpg", [".e.jpg"]),
            ("p/.h*/*", [".hidden/d.jpg"]),
            ("p/.hidden/*", ["d.jpg"]),
        ],
    )
    def test_what_it_selects(self, pattern: str, expected: list[str]) -> None:
        assert names(pattern) == expected
        absolute = str(Path.cwd() / pattern)
        assert names(absolute) == expected

    def test_not_recursive(self) -> None:
        assert names("p/x*", recursive=False) == ["x1/a.jpg", "x2/a.jpg"]
        assert "x1/deep/c.jpg" in names("p/**/*.jpg", recursive=False)

    def test_its_root_is_the_folder_before_the_wildcard(self) -> None:
        assert {file.root for file in find("p/**/*.jpg")} == {"p"}
        assert {file.root for file in find("*/a.jpg")} == {"."}
        assert {file.root for file in find(f"{Path.cwd()}/p/*.jpg")} == {f"{Path.cwd()}/p"}

    @pytest.mark.parametrize("pattern", ["p/*.gif", "none/*.jpg", "p/x2/*.txt", "p/a.jpg/*", "[z]"])
    def test_one_that_selects_no_image(self, pattern: str) -> None:
        assert usage_error("p", pattern) == f"no image matches {pattern!r}"

    def test_a_file_of_that_very_name_comes_first(self, touch: Touch) -> None:
        touch("p/[ab].jpg", "p/b.jpg", "shots [2023]/1.jpg", "shots [2023]/2.png")
        assert names("p/[ab].jpg") == ["[ab].jpg"]
        assert names("shots [2023]") == ["1.jpg", "2.png"]
        assert names("shots [2023]/*.jpg") == ["1.jpg"]

    segments = st.sampled_from(["**", "*", "a", "b*", "?", "[ab]", "*.jpg", "a.jpg", ".h*"])

    @settings(max_examples=60, deadline=None)
    @given(st.lists(segments, min_size=1, max_size=4))
    def test_it_agrees_with_glob(
        self, tmp_path_factory: pytest.TempPathFactory, parts: list[str]
    ) -> None:
        """The second definition: glob.glob, what is in a folder it selects being selected too."""
        root = tmp_path_factory.getbasetemp() / "glob-tree"
        if not root.exists():
            for depth in range(4):
                for folders in itertools.product(["a", "b", "bb", ".h"], repeat=depth):
                    folder = root.joinpath(*folders)
                    folder.mkdir(parents=True, exist_ok=True)
                    for name in ("a.jpg", "c.jpg", ".d.jpg", "e.txt"):
                        (folder / name).touch()
        pattern = "/".join(parts)
        expected: set[Path] = set()
        for match in glob.glob(pattern, root_dir=root, recursive=True):  # noqa: PTH207
            path = root / match
            if path.is_dir():
                expected.update(
                    below
                    for below in path.rglob("*.jpg")
                    if not any(part.startswith(".") for part in below.relative_to(path).parts)
                )
            elif path.suffix == ".jpg" and not match.endswith("/"):
                # glob.glob takes `a.jpg/**` to select a file a.jpg; a shell does not.
                expected.add(path)
        try:
            found = [file.path for file in discover([f"{root}/{pattern}"])]
        except UsageError:
            found = []
        assert set(found) == expected
        assert len(set(found)) == len(found)


class TestList:
    def test_lines(self, touch: Touch) -> None:
        root = touch("photos/a.jpg", "photos/b c.jpg", "photos/sub/d.jpg", "notes.txt")
        text = f"photos/b c.jpg\n\n   \n{root}/photos/sub/d.jpg\r\nphotos/a.jpg"
        found = find("-", stdin=text)
        assert [file.file_name for file in found] == ["b c.jpg", "sub/d.jpg", "a.jpg"]
        assert {file.root for file in found} == {"-"}
        assert found == find("-", stdin=text.encode())
        assert names("-", stdin="photos/a.jpg\nnotes.txt\n") == ["photos/a.jpg", "notes.txt"]
        assert names("-", stdin="photos/a.jpg") == ["a.jpg"]

    def test_between_nul(self, touch: Touch) -> None:
        touch("photos/a\nb.jpg", "photos/ c.jpg ", "photos/d\r")
        text = "photos/a\nb.jpg\0photos/ c.jpg \0\0photos/d\r"
        assert names("-", stdin=text) == ["a\nb.jpg", " c.jpg ", "d\r"]

    def test_names_that_are_no_text(self, touch: Touch) -> None:
        name = b"photos/caf\xe9.jpg"
        touch(os.fsdecode(name), content=b"there")
        (file,) = find("-", stdin=name + b"\n")
        assert file.file_name == "caf\\xe9.jpg"
        assert read_file(file.path) == b"there"

    def test_what_is_missing_is_found_to_be_reported(self, touch: Touch) -> None:
        touch("a.jpg")
        found = find("-", stdin="gone/b.jpg\na.jpg\n*.jpg\n")
        assert [(file.file_name, file.size) for file in found] == [
            ("gone/b.jpg", -1), ("a.jpg", 0), ("*.jpg", -1),
        ]  # fmt: skip

    def test_each_once(self, touch: Touch) -> None:
        touch("p/a.jpg", "p/b.jpg")
        assert names("-", stdin="p/a.jpg\np/b.jpg\n./p/a.jpg\np/../p/b.jpg\n") == ["a.jpg", "b.jpg"]

    def test_folders_in_it_are_walked(self, touch: Touch) -> None:
        touch("p/a.jpg", "p/s/b.jpg", "q/c.jpg")
        assert names("-", stdin="p\nq/\n") == ["p/a.jpg", "p/s/b.jpg", "q/c.jpg"]
        assert names("-", stdin="p\n") == ["a.jpg", "s/b.jpg"]
        assert names("-", stdin="p\n", recursive=False) == ["a.jpg"]
        assert names("-", stdin="p\np/s\np/a.jpg\n") == ["a.jpg", "s/b.jpg"]

    def test_an_empty_one(self, touch: Touch) -> None:
        touch()
        assert names("-", stdin="") == names("-", stdin="\n\n") == []

    def test_once_only(self, touch: Touch) -> None:
        touch()
        assert usage_error("-", "-", stdin="").startswith("the source - is given twice")

    def test_from_a_pipe(self, touch: Touch) -> None:
        root = touch("p/a\nb.jpg", os.fsdecode(b"p/\xff.jpg"))
        script = (
            "from pixano_cli.media.discover import discover\n"
            "for file in discover(['-']): print(ascii(file.file_name))"
        )
        done = subprocess.run(
            f'find p -type f -print0 | sort -z | {sys.executable} -c "$SCRIPT"',
            shell=True,
            cwd=root,
            env={**os.environ, "SCRIPT": script, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines() == [ascii("a\nb.jpg"), ascii("\\xff.jpg")]


class TestSeveralRoots:
    def test_names_begin_with_the_folders(self, touch: Touch) -> None:
        touch("photos/a.jpg", "other/a.jpg", "deep/er/a.jpg")
        assert names("photos", "other") == ["photos/a.jpg", "other/a.jpg"]
        assert names("other", "deep/er/*.jpg") == ["other/a.jpg", "er/a.jpg"]
        assert names("other", "photos/a.jpg") == ["other/a.jpg", "photos/a.jpg"]
        assert names("other", "-", stdin="photos/a.jpg") == ["other/a.jpg", "photos/a.jpg"]
        os.chdir("photos")
        assert names(".", "../other") == ["photos/a.jpg", "other/a.jpg"]

    def test_folders_of_one_name(self, touch: Touch) -> None:
        touch("x/photos/a.jpg", "y/photos/a.jpg", "z/photos-2/a.jpg", "w/photos/a.jpg")
        assert names("x/photos", "y/photos", "z/photos-2", "w/photos") == [
            "photos/a.jpg", "photos-2/a.jpg", "photos-2-2/a.jpg", "photos-3/a.jpg",
        ]  # fmt: skip
        assert names("y/photos", "x/photos") == ["photos/a.jpg", "photos-2/a.jpg"]

    def test_one_root_named_twice_is_one(self, touch: Touch) -> None:
        touch("photos/a.jpg", "photos/b.png")
        assert names("photos", "photos/") == ["a.jpg", "b.png"]
        assert names("photos/*.png", "photos/*.jpg") == ["b.png", "a.jpg"]
        assert names("photos/b.png", "photos") == ["b.png", "a.jpg"]

    def test_overlaps_come_once_where_found_first(self, touch: Touch) -> None:
        touch("photos/a.jpg", "photos/sub/b.jpg")
        assert names("photos", "photos/sub") == ["photos/a.jpg", "photos/sub/b.jpg"]
        assert names("photos/sub", "photos") == ["sub/b.jpg", "photos/a.jpg"]
        assert names("photos", "photos/sub/b.jpg") == ["photos/a.jpg", "photos/sub/b.jpg"]
        assert names("photos/a.jpg", "photos/a.jpg") == ["a.jpg"]

    def test_a_path_or_a_string_alone_will_do(self, touch: Touch) -> None:
        root = touch("photos/a.jpg")
        assert [file.file_name for file in discover("photos")] == ["a.jpg"]
        assert [file.file_name for file in discover([root / "photos"])] == ["a.jpg"]

    @settings(max_examples=40, deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                [
                    "t/p",
                    "t/q/p",
                    "t/q",
                    "t/p/s",
                    "t/p/a.jpg",
                    "t/q/p/a.jpg",
                    "t/p/*.jpg",
                    "t/**/s/*",
                    "t/p/",
                ]
            ),
            min_size=1,
            max_size=5,
        )
    )
    def test_each_file_once_and_all_of_them(
        self, tmp_path_factory: pytest.TempPathFactory, sources: list[str]
    ) -> None:
        base = tmp_path_factory.getbasetemp() / "overlap-tree"
        if not base.exists():
            for folder in ("t/p", "t/p/s", "t/q", "t/q/p", "t/q/p/s"):
                (base / folder).mkdir(parents=True, exist_ok=True)
                (base / folder / "a.jpg").touch()
                (base / folder / "b.jpg").touch()
        given_sources = [f"{base}/{source}" for source in sources]
        found = list(discover(given_sources))
        assert len({file.path for file in found}) == len(found)
        assert len({file.file_name for file in found}) == len(found)
        each = {file.path for source in given_sources for file in discover([source])}
        assert {file.path for file in found} == each
