"""COCO files of videos, as the readers of COCO and of its dialects for video read them."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from pyarrow import parquet as pq
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pixano_cli.annotations import AnnotatedImage
from pixano_cli.formats.coco import write_coco
from pixano_cli.formats.parquet import write_parquet

from .samples import (
    CATEGORIES,
    EXAMPLE,
    PROVENANCE,
    boxed,
    image,
    masked,
    numbered,
    writes_files,
)
from .videos import frame, tracked, videos


def written(path: Path, made: list[AnnotatedImage]) -> dict[str, Any]:
    write_coco(iter(made), path, CATEGORIES, PROVENANCE)
    document: dict[str, Any] = json.loads(path.read_bytes())
    return document


def test_what_frames_and_their_annotations_say(tmp_path: Path) -> None:
    cat, cup = boxed("cat", 1, 2, 3, 4), boxed("cup", 1, 2, 30, 40)
    document = written(
        tmp_path / "out.json",
        numbered(
            frame("b.mp4", 0, tracked(cat, 7), timestamp_s=0.0),
            frame("b.mp4", 5, timestamp_s=0.2),
            frame("b.mp4", 10, tracked(cat, 7), tracked(cup, 8), boxed("cat", 5, 5, 9, 9)),
            frame("a.mp4", 3, tracked(cup, 7), timestamp_s=1.5),
        ),
    )
    assert document["videos"] == [
        {"id": 1, "name": "b.mp4", "width": 64, "height": 48},
        {"id": 2, "name": "a.mp4", "width": 64, "height": 48},
    ]
    told = ("video_id", "frame_index", "frame_id", "timestamp_s")
    assert [tuple(each.get(name) for name in told) for each in document["images"]] == [
        (1, 0, 0, 0.0),
        (1, 5, 1, 0.2),
        (1, 10, 2, None),
        (2, 3, 0, 1.5),
    ]
    assert "timestamp_s" not in document["images"][2]
    told = ("image_id", "video_id", "track_id", "instance_id")
    assert [tuple(each.get(name) for name in told) for each in document["annotations"]] == [
        (1, 1, 7, 1),
        (3, 1, 7, 1),
        (3, 1, None, None),
        (3, 1, 8, 2),
        (4, 2, 7, 3),
    ]


def test_images_alone_say_nothing_of_videos(tmp_path: Path) -> None:
    written(tmp_path / "out.json", numbered(*EXAMPLE[:2]))
    assert (tmp_path / "out.json").read_text(encoding="utf-8") == (
        '{"info": {"description":"test","version":"1.2","parameters":{"threshold":0.5}},\n'
        '"licenses": [],\n'
        '"categories": [\n'
        '{"id":17,"name":"cat","supercategory":"animal"},\n'
        '{"id":47,"name":"cup"},\n'
        '{"id":1,"name":"père Noël"}],\n'
        '"images": [\n'
        '{"id":1,"file_name":"a b/1.jpg","width":64,"height":48},\n'
        '{"id":2,"file_name":"empty.png","width":64,"height":48}\n'
        "],\n"
        '"annotations": [\n'
        '{"id":1,"image_id":1,"category_id":17,"bbox":[0.1,0.2,10.0,20.1],"area":201.0,'
        '"iscrowd":0,"score":0.5},\n'
        '{"id":2,"image_id":1,"category_id":47,"bbox":[3.0,4.0,47.0,36.0],"area":1692.0,'
        '"iscrowd":0}\n'
        "]}\n"
    )


def test_images_between_videos_are_images(tmp_path: Path) -> None:
    document = written(
        tmp_path / "out.json",
        numbered(
            frame("a.mp4", 0, tracked(boxed("cat", 1, 2, 3, 4), 1)),
            image("photo.jpg", boxed("cat", 1, 2, 3, 4)),
        ),
    )
    assert [each.get("video_id") for each in document["images"]] == [1, None]
    assert [each.get("video_id") for each in document["annotations"]] == [1, None]


class FramesByVideo:
    """Reads as CocoVID of mmtracking does: frames by `frame_id`, tracks by `instance_id`."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.videos = {each["id"]: each for each in document["videos"]}
        self._images = defaultdict(list)
        self.instances = defaultdict(list)
        self.instances_of_video = defaultdict(set)
        for each in document["images"]:
            self._images[each["video_id"]].append(each)
        for each in document["annotations"]:
            if "instance_id" in each:
                self.instances[each["instance_id"]].append(each)
                self.instances_of_video[each["video_id"]].add(each["instance_id"])

    def image_ids(self, video_id: int) -> list[int]:
        images = self._images[video_id]
        ids = [0] * len(images)
        for each in images:
            ids[each["frame_id"]] = each["id"]
        return ids


@writes_files
@given(made=videos())
def test_readers_of_videos_find_every_frame_and_track(
    tmp_path_factory: pytest.TempPathFactory, made: list[AnnotatedImage]
) -> None:
    path = tmp_path_factory.mktemp("coco") / "out.json"
    document = written(path, made)
    reader = FramesByVideo({"videos": [], **document})
    by_video = [(name, [*frames]) for name, frames in groupby(made, key=lambda each: each.video)]
    assert [each["name"] for each in reader.videos.values()] == [name for name, _ in by_video]
    instances = 0
    for video_id, (_, frames) in enumerate(by_video, start=1):
        assert reader.image_ids(video_id) == [each.id for each in frames]
        tracks = defaultdict(list)
        for each in frames:
            for found in each.annotations:
                if found.track_id is not None:
                    tracks[found.track_id].append(found.id)
        read = {
            each[0]["track_id"]: [row["id"] for row in each]
            for each in map(reader.instances.get, reader.instances_of_video[video_id])
            if each is not None
        }
        assert read == tracks
        instances += len(tracks)
    assert len(reader.instances) == instances
    assert sorted(COCO(str(path)).getImgIds()) == [each.id for each in made]


def test_the_annotations_are_results_that_coco_scores(tmp_path: Path) -> None:
    moving = [
        frame(
            "a.mp4",
            at,
            tracked(masked("cat", slice(2, 40), slice(3 + at, 30 + at)), 1),
            tracked(masked("cup", slice(5, 20), slice(40, 60)), 2),
        )
        for at in range(4)
    ]
    document = written(tmp_path / "out.json", numbered(*moving))
    truth = COCO(str(tmp_path / "out.json"))
    found = truth.loadRes(document["annotations"])
    for kind in ("bbox", "segm"):
        judge = COCOeval(truth, found, kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        assert judge.stats[0] == pytest.approx(1.0)


def test_parquet_has_a_row_a_frame(tmp_path: Path) -> None:
    made = numbered(
        frame("a.mp4", 0, tracked(boxed("cat", 1, 2, 3, 4), 7), timestamp_s=0.0),
        frame("a.mp4", 30, timestamp_s=1.001),
    )
    write_parquet(iter(made), tmp_path / "out.parquet", CATEGORIES, PROVENANCE)
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["video"], row["frame_index"], row["timestamp_s"]) for row in rows] == [
        ("a.mp4", 0, 0.0),
        ("a.mp4", 30, 1.001),
    ]
    assert [[each["track_id"] for each in row["annotations"]] for row in rows] == [[7], []]
