"""Which format an output gets, and that naming one loads nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import parquet as pq

from pixano_cli.errors import UsageError
from pixano_cli.formats import FORMATS, check_output, format_of, video_format_of, write

from .samples import CATEGORIES, EXAMPLE, PROVENANCE, masked, numbered
from .videos import frame, tracked


@pytest.mark.parametrize(
    ("name", "override", "expected"),
    [
        ("out/a.json", None, "coco"),
        ("a.JSON", None, "coco"),
        ("a.b.parquet", None, "parquet"),
        ("a.json", "parquet", "parquet"),
        ("no-suffix", "coco", "coco"),
    ],
)
def test_the_suffix_chooses_unless_overridden(
    name: str, override: str | None, expected: str
) -> None:
    assert format_of(Path(name), override) == expected


@pytest.mark.parametrize("name", ["a.csv", "a", ".json", "a.json.gz"])
def test_an_unknown_suffix_lists_the_known(name: str) -> None:
    with pytest.raises(UsageError, match=r"\.json \(coco\), \.parquet \(parquet\)"):
        format_of(Path(name), None)


def test_an_unknown_format_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'yolo': known are coco, parquet"):
        format_of(Path("a.json"), "yolo")
    with pytest.raises(UsageError, match="'yolo': known are coco, parquet"):
        write("yolo", [], tmp_path / "a.json", CATEGORIES, PROVENANCE)
    assert [*tmp_path.iterdir()] == []


def test_write_writes_the_named_format(tmp_path: Path) -> None:
    write("coco", numbered(*EXAMPLE), tmp_path / "a", CATEGORIES, PROVENANCE)
    write("parquet", numbered(*EXAMPLE), tmp_path / "b", CATEGORIES, PROVENANCE)
    assert len(json.loads((tmp_path / "a").read_bytes())["images"]) == len(EXAMPLE)
    assert pq.read_table(tmp_path / "b").num_rows == len(EXAMPLE)


@pytest.mark.parametrize(
    ("name", "override", "expected"),
    [
        ("a.json", None, "coco"),
        ("a.parquet", None, "parquet"),
        ("a.json", "youtube-vis", "youtube-vis"),
        ("masks/", "davis", "davis"),
        ("masks.v2", "davis", "davis"),
        ("a", "coco", "coco"),
    ],
)
def test_videos_have_formats_of_their_own(name: str, override: str | None, expected: str) -> None:
    assert video_format_of(Path(name), override) == expected


def test_what_cannot_be_a_format_is_told_apart() -> None:
    for name in ("davis", "youtube-vis"):
        with pytest.raises(UsageError, match=f"'{name}' holds videos only: for images known are"):
            format_of(Path("a.json"), name)
    with pytest.raises(UsageError, match="'yolo': known are coco, parquet, youtube-vis, davis"):
        video_format_of(Path("a.json"), "yolo")
    with pytest.raises(UsageError, match=r"--format, which also has youtube-vis and davis"):
        video_format_of(Path("masks/"), None)
    with pytest.raises(UsageError, match=r"'a\.json': davis makes a folder .* without \.json"):
        video_format_of(Path("a.json"), "davis")


def test_an_output_is_checked_as_what_it_will_be(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.json").write_text("")
    for name in FORMATS:
        here, there = ("folder", "file.json") if name == "davis" else ("file.json", "folder")
        check_output(tmp_path / here, name)
        check_output(tmp_path / "new" / here, name)
        with pytest.raises(UsageError, match=r"is in the place of|it is a folder"):
            check_output(tmp_path / there, name)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file.json", "folder"]


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_may_be_written_again(tmp_path: Path, name: str) -> None:
    made = numbered(frame("a.mp4", 0, tracked(masked("cat", slice(5, 20), slice(10, 30)), 1)))
    for _ in range(2):
        check_output(tmp_path / "out", name)
        write(name, made, tmp_path / "out", CATEGORIES, PROVENANCE)
    assert [*tmp_path.iterdir()] == [tmp_path / "out"]


def test_the_heavy_libraries_are_not_imported_to_choose() -> None:
    script = (
        "import sys, pixano_cli.formats as f, pathlib; f.format_of(pathlib.Path('a.json'), None);"
        "f.video_format_of(pathlib.Path('m'), 'davis'); f.check_output(pathlib.Path('m'), 'davis');"
        "import pixano_cli.formats.atomic, pixano_cli.formats.boxes, pixano_cli.formats.categories;"
        "print({'pyarrow', 'pycocotools', 'orjson', 'PIL', 'av'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
