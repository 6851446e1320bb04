"""Which format an output gets, and that naming one loads nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import parquet as pq

from pixano_cli.errors import UsageError
from pixano_cli.formats import format_of, write

from .samples import CATEGORIES, EXAMPLE, PROVENANCE, numbered


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


def test_the_heavy_libraries_are_not_imported_to_choose() -> None:
    script = (
        "import sys, pixano_cli.formats as f, pathlib; f.format_of(pathlib.Path('a.json'), None);"
        "import pixano_cli.formats.atomic, pixano_cli.formats.boxes, pixano_cli.formats.categories;"
        "print({'pyarrow', 'pycocotools', 'orjson', 'PIL'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
