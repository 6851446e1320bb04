from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from pixano_cli.annotations import AnnotatedImage, number
from pixano_cli.errors import OutputError
from pixano_cli.formats import write_captions
from pixano_cli.formats.coco_captions import write_coco_captions

captions = st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])), max_size=5)


def images(texts: list[str | None]) -> list[AnnotatedImage]:
    made = [
        AnnotatedImage(f"{place}.jpg", f"{place:064}", 3, 2, 1, caption=text)
        for place, text in enumerate(texts)
    ]
    return list(number(made, ()))


@settings(deadline=None)
@given(captions)
def test_round_trip_by_the_coco_api(tmp_path_factory: pytest.TempPathFactory, texts: list) -> None:
    path = tmp_path_factory.mktemp("coco") / "captions.json"
    write_coco_captions(images(texts), path, {"task": "caption"})
    coco = COCO(path)
    assert [coco.imgs[key]["file_name"] for key in sorted(coco.imgs)] == [
        f"{place}.jpg" for place in range(len(texts))
    ]
    found = {each["image_id"]: each["caption"] for each in coco.anns.values()}
    assert found == {place: text for place, text in enumerate(texts, 1) if text}
    assert sorted(coco.anns) == list(range(1, len(found) + 1))
    assert json.loads(path.read_text())["info"] == {"task": "caption"}


def test_parquet_has_the_captions(tmp_path: Path) -> None:
    from pyarrow import parquet

    path = tmp_path / "captions.parquet"
    write_captions("parquet", images(["a cat", None]), path, {})
    assert parquet.read_table(path)["caption"].to_pylist() == ["a cat", None]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_text("old")

    def broken():
        yield from images(["a"])
        raise OutputError("no more")

    with pytest.raises(OutputError):
        write_coco_captions(broken(), path, {})
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
