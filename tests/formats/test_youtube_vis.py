"""YouTube-VIS files, as the YouTube-VIS API reads them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pixano_cli import rle
from pixano_cli.annotations import AnnotatedImage, Annotation, Box, number
from pixano_cli.errors import MediaReadError, OutputError
from pixano_cli.formats.youtube_vis import write_youtube_vis

from .samples import CATEGORIES, PROVENANCE, boxed, image, masked, numbered, writes_files
from .videos import frame, tracked, videos


def written(path: Path, made: list[AnnotatedImage]) -> dict[str, Any]:
    write_youtube_vis(iter(made), path, CATEGORIES, PROVENANCE)
    document: dict[str, Any] = json.loads(path.read_bytes())
    return document


class YouTubeVIS:
    """Reads as ytvos.py does: indexes, masks by annotation and place, results with their areas."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.videos = {each["id"]: each for each in document["videos"]}
        self.categories = {each["id"]: each for each in document["categories"]}
        self.annotations = {each["id"]: each for each in document["annotations"]}
        self.of_video: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for each in document["annotations"]:
            self.of_video[each["video_id"]].append(each)

    def mask(self, annotation: dict[str, Any], place: int) -> NDArray[np.uint8] | None:
        segmentation = annotation["segmentations"][place]
        if segmentation is None:
            return None
        mask: NDArray[np.uint8] = coco_mask.decode(segmentation)
        return mask


def test_the_whole_of_a_small_file(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    cat = masked("cat", slice(5, 20), slice(10, 30), score=0.25)
    cup = boxed("cup", 1, 2, 3, 4.5, score=None)
    written(
        path,
        numbered(
            frame("a.mp4", 0, tracked(cat, 7, 0.25), tracked(cup, 9, None)),
            frame("a.mp4", 10),
            frame("a.mp4", 20, tracked(cat, 7, 0.75)),
            frame("b.mp4", 0),
        ),
    )
    assert cat.mask is not None
    counts = json.dumps(cat.mask.counts.decode())
    mask = f'{{"size":[48,64],"counts":{counts}}}'
    assert path.read_text(encoding="utf-8") == (
        '{"info": {"description":"test","version":"1.2","parameters":{"threshold":0.5}},\n'
        '"licenses": [],\n'
        '"categories": [\n'
        '{"id":17,"name":"cat","supercategory":"animal"},\n'
        '{"id":47,"name":"cup"},\n'
        '{"id":1,"name":"père Noël"}],\n'
        '"videos": [\n'
        '{"id":1,"width":64,"height":48,"name":"a.mp4","file_names":["a.mp4/frame_000000.png",'
        '"a.mp4/frame_000010.png","a.mp4/frame_000020.png"],"length":3},\n'
        '{"id":2,"width":64,"height":48,"name":"b.mp4","file_names":["b.mp4/frame_000000.png"],'
        '"length":1}\n'
        "],\n"
        '"annotations": [\n'
        '{"id":1,"video_id":1,"category_id":17,"iscrowd":0,"width":64,"height":48,"length":3,'
        '"score":0.5,"track_id":7,"areas":[299.0,null,299.0],'
        '"bboxes":[[10.0,5.0,20.0,15.0],null,[10.0,5.0,20.0,15.0]],'
        f'"segmentations":[{mask},null,{mask}]}},\n'
        '{"id":2,"video_id":1,"category_id":47,"iscrowd":0,"width":64,"height":48,"length":3,'
        '"track_id":9,"areas":[5.0,null,null],"bboxes":[[1.0,2.0,2.0,2.5],null,null],'
        '"segmentations":[null,null,null]}\n'
        "]}\n"
    )


def test_no_frames_is_a_whole_file_too(tmp_path: Path) -> None:
    document = written(tmp_path / "out.json", [])
    assert document["videos"] == document["annotations"] == []


@writes_files
@given(made=videos())
def test_the_api_finds_every_object_in_its_frame_again(
    tmp_path_factory: pytest.TempPathFactory, made: list[AnnotatedImage]
) -> None:
    reader = YouTubeVIS(written(tmp_path_factory.mktemp("vis") / "out.json", made))
    by_video = [(name, [*frames]) for name, frames in groupby(made, key=lambda each: each.video)]
    assert [each["name"] for each in reader.videos.values()] == [name for name, _ in by_video]
    assert [*reader.annotations] == [*range(1, len(reader.annotations) + 1)]
    for (_, frames), row in zip(by_video, reader.videos.values(), strict=True):
        assert row["length"] == len(frames)
        assert row["file_names"] == [each.file_name for each in frames]
        assert (row["width"], row["height"]) == (frames[0].width, frames[0].height)
        read: list[list[tuple[Any, ...]]] = [[] for _ in frames]
        for annotation in reader.of_video[row["id"]]:
            columns = [annotation[name] for name in ("areas", "bboxes", "segmentations")]
            assert {len(column) for column in columns} == {len(frames)} == {annotation["length"]}
            for place, (area, bbox, segmentation) in enumerate(zip(*columns, strict=True)):
                if bbox is None:
                    assert area is None
                    assert segmentation is None
                    continue
                mask = reader.mask(annotation, place)
                if mask is not None:
                    assert area == mask.sum() == coco_mask.area(segmentation)
                    assert bbox == coco_mask.toBbox(segmentation).tolist()
                read[place].append(
                    (
                        annotation.get("track_id"),
                        reader.categories[annotation["category_id"]]["name"],
                        bbox,
                        area,
                        None if mask is None else mask.tobytes(),
                    )
                )
        for each, found in zip(frames, read, strict=True):
            assert sorted(found, key=repr) == sorted(map(described, each.annotations), key=repr)


def described(annotation: Annotation) -> tuple[Any, ...]:
    xmin, ymin, xmax, ymax = annotation.box
    return (
        annotation.track_id,
        annotation.label,
        [xmin, ymin, xmax - xmin, ymax - ymin],
        annotation.area,
        None if annotation.mask is None else rle.decode(annotation.mask).tobytes(),
    )


@writes_files
@given(made=videos())
def test_a_video_is_written_alike_whatever_comes_before_it(
    tmp_path_factory: pytest.TempPathFactory, made: list[AnnotatedImage]
) -> None:
    folder = tmp_path_factory.mktemp("vis")
    together = written(folder / "all.json", made)
    written(folder / "again.json", made)
    assert (folder / "again.json").read_bytes() == (folder / "all.json").read_bytes()
    alone = [
        written(folder / "one.json", [*frames])
        for _, frames in groupby(made, key=lambda each: each.video)
    ]
    ids = {"id", "video_id"}
    for part in ("videos", "annotations"):
        assert [strip(each, ids) for each in together[part]] == [
            strip(each, ids) for document in alone for each in document[part]
        ]


def strip(row: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def test_a_track_has_the_label_of_most_frames_and_the_mean_score(tmp_path: Path) -> None:
    scores = [("cat", 0.25), ("cup", 0.5), ("cup", None), ("cat", 0.75), ("cup", 1.0)]
    made = [
        frame("a.mp4", at, tracked(boxed(label, 1, 2, 3, 4), 1, score))
        for at, (label, score) in enumerate(scores)
    ]
    (row,) = written(tmp_path / "out.json", numbered(*made))["annotations"]
    assert (row["category_id"], row["score"]) == (47, 0.625)


def test_annotations_without_a_track_are_each_their_own(tmp_path: Path) -> None:
    cat = boxed("cat", 1, 2, 3, 4)
    made = numbered(frame("a.mp4", 0, cat, cat), frame("a.mp4", 1, cat))
    rows = written(tmp_path / "out.json", made)["annotations"]
    assert [row["areas"] for row in rows] == [[4.0, None], [4.0, None], [None, 4.0]]
    assert all("track_id" not in row for row in rows)


def test_a_second_object_that_claims_a_track_in_a_frame_is_not_lost(tmp_path: Path) -> None:
    cat, cup = boxed("cat", 1, 2, 3, 4), boxed("cat", 1, 2, 30, 40)
    made = numbered(
        frame("a.mp4", 0, tracked(cat, 1, 0.9), tracked(cup, 1, 0.8)),
        frame("a.mp4", 1, tracked(cat, 1, 0.9)),
    )
    rows = written(tmp_path / "out.json", made)["annotations"]
    assert [(row["track_id"], row["areas"]) for row in rows] == [
        (1, [4.0, 4.0]),
        (1, [1102.0, None]),
    ]


def test_what_is_no_frame_of_a_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("earlier")
    made = numbered(frame("a.mp4", 0), image("photo.jpg"))
    with pytest.raises(OutputError, match=r"'photo\.jpg' is not a frame of a video, and YouTube-V"):
        write_youtube_vis(iter(made), path, CATEGORIES, PROVENANCE)
    assert path.read_text() == "earlier"
    assert [*tmp_path.iterdir()] == [path]


def test_a_failure_while_reading_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("earlier")

    def stream() -> Iterator[AnnotatedImage]:
        yield frame("a.mp4", 0, tracked(boxed("cat", 1, 2, 3, 4), 1))
        raise MediaReadError("gone")

    with pytest.raises(MediaReadError, match="gone"):
        write_youtube_vis(number(stream(), CATEGORIES), path, CATEGORIES, PROVENANCE)
    assert path.read_text() == "earlier"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="names are text there")
def test_a_name_that_is_not_utf8_leaves_the_file_readable(tmp_path: Path) -> None:
    document = written(tmp_path / "out.json", numbered(frame("caf\udce9.mp4", 0)))
    assert document["videos"][0]["name"] == "caf\\udce9.mp4"
    assert document["videos"][0]["file_names"] == ["caf\\udce9.mp4/frame_000000.png"]


WRITE = """
import sys
from pathlib import Path
from pixano_cli.annotations import AnnotatedImage, Annotation, Box, Category, number
from pixano_cli.formats import write
from pixano_cli.rle import CompressedRLEData

path, videos, frames = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

def images():
    for video in range(videos):
        for at in range(frames):
            found = tuple(
                Annotation(
                    "cat",
                    (at * 31 + track * 17) % 1000 / 1000,
                    Box(track + at % 97 / 100, 0.34, 400.45 + at % 777, 1000.5),
                    1234.56 + at,
                    # No mask is read here.
                    CompressedRLEData([1080, 1920], b"x" * 400 + b"%d" % at),
                    track,
                )
                for track in range(10)
            )
            name = f"{video:04d}.mp4"
            yield AnnotatedImage(
                f"{name}/frame_{at:06d}.png", "ab", 1920, 1080, 1, found, name, at, at / 30
            )

categories = [Category(1, "cat")]
write("youtube-vis", number(images(), categories), path, categories, {"version": "1"})
status = Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) * 1024)
"""


def peak_megabytes(path: Path, videos: int, frames: int) -> float:
    run = subprocess.run(
        [sys.executable, "-c", WRITE, str(path), str(videos), str(frames)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(run.stdout) / 1e6


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@LINUX
def test_a_longer_video_and_more_videos_need_little_more_memory(tmp_path: Path) -> None:
    few = peak_megabytes(tmp_path / "few.json", 1, 500)
    assert peak_megabytes(tmp_path / "long.json", 1, 5_000) - few < 5
    assert peak_megabytes(tmp_path / "many.json", 5, 500) - few < 5
    rows = json.loads((tmp_path / "many.json").read_bytes())["annotations"]
    assert len(rows) == 50
    assert all(None not in row["areas"] for row in rows)


@LINUX
@pytest.mark.long
def test_a_video_of_a_hundred_thousand_frames(tmp_path: Path) -> None:
    few = peak_megabytes(tmp_path / "few.json", 1, 500)
    assert peak_megabytes(tmp_path / "long.json", 1, 100_000) - few < 30


def test_boxes_alone_have_no_masks(tmp_path: Path) -> None:
    made = numbered(frame("a.mp4", 0, tracked(boxed("cat", 1, 2, 3, 4), 1)))
    (row,) = written(tmp_path / "out.json", made)["annotations"]
    assert row["segmentations"] == [None]
    assert [Box(x, y, x + w, y + h) for x, y, w, h in row["bboxes"]] == [Box(1, 2, 3, 4)]
