"""Label sets from JSON, COCO and text files, and what is wrong with others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pixano_cli.annotations import Category
from pixano_cli.errors import UsageError
from pixano_cli.formats.categories import read_categories
from pixano_cli.formats.coco import write_coco

from .samples import CATEGORIES


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"id": 3, "name": "cat"}, {"id": 0, "name": "cup", "supercategory": "thing"}]',
         (Category(3, "cat"), Category(0, "cup", "thing"))),
        (' {"categories": [{"id": 1, "name": "a", "color": [1, 2, 3]}], "images": []}',
         (Category(1, "a"),)),
        ('\ufeff[{"id": 1, "name": "a"}]', (Category(1, "a"),)),
        ('[{"id": 1, "name": "a", "weight": NaN}]', (Category(1, "a"),)),
        ("cat\n dining table \r\n\n全角\u3000語\n",
         (Category(1, "cat"), Category(2, "dining table"), Category(3, "全角\u3000語"))),
        ("\ufeffcat", (Category(1, "cat"),)),
    ],
)  # fmt: skip
def test_what_is_read(tmp_path: Path, content: str, expected: tuple[Category, ...]) -> None:
    path = tmp_path / "labels"
    path.write_text(content, encoding="utf-8")
    assert read_categories(path) == expected


def test_an_output_of_ours_is_a_label_set(tmp_path: Path) -> None:
    write_coco([], tmp_path / "out.json", CATEGORIES, {})
    assert read_categories(tmp_path / "out.json") == CATEGORIES


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "holds no categories"),
        (b"\n \n", "holds no categories"),
        (b"[]", "holds no categories"),
        (b'{"images": []}', 'no "categories" list'),
        (b'{"categories": {"1": "cat"}}', 'no "categories" list'),
        (b'["cat"]', "category 1 is not an object"),
        (b'[{"id": 1, "name": "a"}, {"name": "b"}]', "category 2 has no \"id\""),
        (b'[{"id": -1, "name": "a"}]', "whole number from 0: -1"),
        (b'[{"id": 1.0, "name": "a"}]', "whole number from 0: 1.0"),
        (b'[{"id": true, "name": "a"}]', "whole number from 0: True"),
        (b'[{"id": "1", "name": "a"}]', "whole number from 0: '1'"),
        (b'[{"id": 9223372036854775808, "name": "a"}]', "whole number from 0"),
        (b'[{"id": 1, "name": " "}]', 'no "name"'),
        (b'[{"id": 1, "name": 7}]', 'no "name"'),
        (b'[{"id": 1, "name": "a", "supercategory": 7}]', "supercategory"),
        (b'[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]', "two categories with the id 1"),
        (b'[{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]', "two categories named 'a'"),
        (b"cat\ncup\ncat\n", "two categories named 'cat'"),
        (b"1\tcat\n", "one label a line"),
        (b'[{"id": 1, "name": "a"', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"caf\xe9\n", "neither JSON nor UTF-8"),
        (json.dumps("cat").encode("utf-16"), "neither JSON nor UTF-8"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "labels"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_categories(path)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError, match="cannot read categories"):
            read_categories(path)
