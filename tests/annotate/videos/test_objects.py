"""Objects to follow: read as written, refused with a reason; and what a file found in frames."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet as pq

from pixano_cli import rle
from pixano_cli.annotate.prompts import PromptError
from pixano_cli.annotate.videos.objects import (
    Detected,
    FramePrompt,
    dump_objects,
    load_objects,
    read_detections,
    read_objects,
)
from pixano_cli.annotations import AnnotatedImage, Annotation, Box, Category, number
from pixano_cli.errors import UsageError
from pixano_cli.formats.boxes import LabelledBox, read_boxes
from pixano_cli.formats.coco import write_coco
from pixano_cli.formats.parquet import write_parquet
from pixano_cli.models.tracking import ObjectPrompt
from pixano_cli.rle import CompressedRLEData

PIXELS = np.zeros((4, 6), dtype=bool)
PIXELS[1:3, 2:5] = True
MASK = rle.encode(PIXELS)
# Down the columns: two empty columns and one pixel, then two of three columns' four pixels.
RUNS = [9, 2, 2, 2, 2, 2, 5]


def read(folder: Path, *entries: Any) -> tuple[FramePrompt, ...]:
    path = folder / "prompts.json"
    path.write_bytes(orjson.dumps({"clip.mp4": entries}))
    return read_objects(path)["clip.mp4"]


def entry(**changes: Any) -> dict[str, Any]:
    given = {"object_id": 1, "frame_index": 0, "box": [1, 2, 3, 4], **changes}
    return {key: value for key, value in given.items() if value is not None}


def test_a_prompts_file(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    content = {
        "clip.mp4": [
            entry(object_id=7, frame_index=12, box=None, points=[[5, 6], [7, 8]], labels=[1, 0]),
            entry(object_id=3, label="cat", points=[[2, 3]]),
            entry(object_id=3, frame_index=12, box=None, mask=MASK.to_dict()),
            entry(object_id=7, frame_index=12, box=None, points=[[9, 9]], label="dog"),
            entry(object_id=7, frame_index=12, box=[0.5, 0, 9, 9.5]),
            entry(object_id=4, frame_index=30),
        ],
        "sub/empty.mkv": [],
    }
    path.write_bytes(b"\xef\xbb\xbf" + orjson.dumps(content))
    joined = ((5.0, 6.0), (7.0, 8.0), (9.0, 9.0))
    assert read_objects(path) == {
        "clip.mp4": (
            FramePrompt("cat", 0, ObjectPrompt(3, Box(1.0, 2.0, 3.0, 4.0), ((2.0, 3.0),), (1,))),
            FramePrompt("cat", 12, ObjectPrompt(3, mask=MASK)),
            FramePrompt("dog", 12, ObjectPrompt(7, Box(0.5, 0.0, 9.0, 9.5), joined, (1, 0, 1))),
            FramePrompt("object", 30, ObjectPrompt(4, Box(1.0, 2.0, 3.0, 4.0))),
        ),
        "sub/empty.mkv": (),
    }


def test_a_correction_may_be_of_points_beside_the_object_or_an_empty_mask(tmp_path: Path) -> None:
    nothing = rle.encode(np.zeros((4, 6), dtype=bool))
    prompts = read(
        tmp_path,
        entry(frame_index=9, box=None, mask=nothing.to_dict()),
        entry(frame_index=5, box=None, points=[[1, 1]], labels=[0]),
        entry(frame_index=2),
    )
    assert [each.frame_index for each in prompts] == [2, 5, 9]
    assert (prompts[1].prompt.labels, prompts[2].prompt.mask) == ((0,), nothing)


@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_an_uncompressed_mask_is_the_compressed_one(
    height: int, width: int, data: st.DataObject
) -> None:
    bits = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    pixels = np.array(bits, dtype=bool).reshape(height, width)
    pixels[0, 0] = True
    column, runs, value = pixels.T.ravel(), [0], False
    for bit in column:
        if bit != value:
            runs.append(0)
            value = bool(bit)
        runs[-1] += 1
    given = entry(box=None, mask={"size": [height, width], "counts": runs})
    [prompt] = load_objects(orjson.dumps([given]).decode())
    assert prompt.prompt.mask == rle.encode(pixels)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([3], "a prompt is an object"),
        ([entry(object=1)], "unknown key 'object': object_id, label"),
        ([entry(object_id=-1)], "object_id is a whole number from 0, not -1"),
        ([entry(object_id=1.0)], "object_id is a whole number from 0, not 1.0"),
        ([entry(object_id=True)], "object_id is a whole number from 0, not True"),
        ([entry(object_id="1")], "object_id is a whole number from 0, not '1'"),
        ([entry(object_id=2**63)], "object_id is a whole number from 0, not 9223372036854775808"),
        ([entry(object_id=None)], "object_id is a whole number from 0, not None"),
        ([entry(frame_index=-1)], "frame_index is a whole number from 0, not -1"),
        ([entry(frame_index=None)], "frame_index is a whole number from 0, not None"),
        ([entry(label="")], "object 1 in frame 0: label is a text"),
        ([entry(label=5)], "object 1 in frame 0: label is a text"),
        ([entry(box=[1, 2, 1, 4])], "object 1 in frame 0: box is"),
        ([entry(box=[1, 2, 3])], "object 1 in frame 0: box is"),
        ([entry(points=[[1]])], "object 1 in frame 0: points is a list of [x, y]"),
        ([entry(points=[[1, 1]], labels=[2])], "object 1 in frame 0: labels has a 1"),
        ([entry(points=[[1, 1]], labels=[1, 0])], "object 1 in frame 0: labels has a 1"),
        ([entry(labels=[1])], "object 1 in frame 0: labels has a 1"),
        ([entry(box=None)], "object 1 in frame 0: a box, points or a mask is wanted"),
        ([entry(box=None, points=[])], "object 1 in frame 0: a box, points or a mask is wanted"),
        ([entry(mask=MASK.to_dict())], "object 1 in frame 0: a mask stands alone"),
        ([entry(), entry(box=None, mask=MASK.to_dict())], "a mask stands alone, without another"),
        ([entry(), entry()], "object 1 in frame 0: it has two boxes"),
        ([entry(label="cat"), entry(frame_index=2, label="dog")],
         "object 1 has two labels, 'cat' and 'dog'"),
        ([entry(frame_index=5), entry(box=None, points=[[1, 1]], labels=[0])],
         "object 1 begins in frame 0: a box, a mask with a pixel inside or a point on the object"),
        ([entry(box=None, mask={"size": [2, 2], "counts": [4]})], "object 1 begins in frame 0"),
    ],
)  # fmt: skip
def test_prompts_that_are_refused(tmp_path: Path, entries: list[Any], reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, *entries)
    assert reason in str(caught.value)
    assert "'clip.mp4'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        ("abc", "mask is {"),
        ({"size": [4, 6]}, "mask is {"),
        (MASK.to_dict() | {"area": 6}, "mask is {"),
        ({"size": [4, 6], "counts": 7}, "neither a text nor a list of runs"),
        ({"size": [4, 6], "counts": "é"}, "outside COCO's compressed form"),
        ({"size": [4, 6], "counts": ""}, "end too early"),
        ({"size": [4, 5], "counts": MASK.to_dict()["counts"]}, "cover 24 pixels"),
        ({"size": [4, 6], "counts": [9, 2]}, "cover 11 pixels"),
        ({"size": [-4, -6], "counts": RUNS}, "cover 24 pixels"),
        ({"size": [4, 6], "counts": [9, -2, 17]}, "not lengths of runs"),
        ({"size": [4, 6], "counts": [9, 15.0]}, "not lengths of runs"),
        ({"size": [4, 6, 1], "counts": RUNS}, "size is [height, width]"),
        ({"size": "46", "counts": RUNS}, "size is [height, width]"),
        ({"size": [4, 6.0], "counts": RUNS}, "size is [height, width]"),
        ({"size": [2**40, 2**20], "counts": [2**60]}, "too large"),
        ({"size": [2**15, 2**15], "counts": [2**30]}, "too large"),
    ],
)
def test_masks_that_are_refused(tmp_path: Path, mask: Any, reason: str) -> None:
    with pytest.raises(UsageError, match="object 1 in frame 0") as caught:
        read(tmp_path, entry(box=None, mask=mask))
    assert reason in str(caught.value)


def test_runs_are_a_mask(tmp_path: Path) -> None:
    [prompt] = read(tmp_path, entry(box=None, mask={"size": [4, 6], "counts": RUNS}))
    assert prompt.prompt.mask == MASK


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "is not JSON"),
        (b'{"a": [{"object_id": 1, "frame_index": 0, "label": "\\ud800"}]}', "is not JSON"),
        (
            b'{"a": [{"object_id": 1, "frame_index": 0, "box": [0, 0, 1' + b"0" * 400 + b", 1]}]}",
            "is not JSON",
        ),
        (b"[]", "is not an object of lists by video"),
        (b'{"a.mp4": {}}', "'a.mp4': a list of prompts is wanted"),
        (b'{"images": [], "annotations": []}', "is a COCO file: give it with --from"),
    ],
)
def test_what_is_no_prompts_file(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "prompts.json"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_objects(path)
    assert reason in str(caught.value)
    with pytest.raises(UsageError, match="cannot be read"):
        read_objects(tmp_path / "missing.json")


coordinates = st.floats(0, 4000).map(lambda value: round(value, 3))
boxes = (
    st.tuples(coordinates, coordinates, coordinates, coordinates)
    .map(lambda c: Box(min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3])))
    .filter(lambda box: not box.is_empty)
)


@st.composite
def masks(draw: st.DrawFn) -> CompressedRLEData:
    pixels = np.zeros((draw(st.integers(1, 9)), draw(st.integers(1, 9))), dtype=bool)
    pixels[draw(st.integers(0, pixels.shape[0] - 1)), draw(st.integers(0, 8)) :] = True
    pixels[0, 0] = True
    return rle.encode(pixels)


@st.composite
def objects(draw: st.DrawFn) -> list[FramePrompt]:
    """Objects of one video, each prompted in one frame or several."""
    prompts = []
    for object_id in draw(st.sets(st.integers(0, 2**63 - 1), max_size=3)):
        label = draw(st.text(min_size=1, max_size=5))
        for index in draw(st.sets(st.integers(0, 500), min_size=1, max_size=3)):
            if draw(st.booleans()):
                prompt = ObjectPrompt(object_id, mask=draw(masks()))
            else:
                points = draw(st.lists(st.tuples(coordinates, coordinates), max_size=3))
                labels = tuple(draw(st.integers(0, 1)) for _ in points)
                prompt = ObjectPrompt(object_id, draw(boxes), tuple(points), labels)
            prompts.append(FramePrompt(label, index, prompt))
    return prompts


@given(objects(), st.randoms(use_true_random=False))
def test_dumped_objects_load_as_they_were(given_objects: list[FramePrompt], chance: Any) -> None:
    text = dump_objects(given_objects)
    loaded = load_objects(text)
    assert sorted(map(repr, loaded)) == sorted(map(repr, given_objects))
    assert loaded == tuple(sorted(loaded, key=lambda each: (each.frame_index, each.object_id)))
    assert dump_objects(loaded) == text
    assert dump_objects(chance.sample(given_objects, len(given_objects))) == text


@given(boxes, st.lists(st.tuples(coordinates, coordinates), max_size=2), st.integers(1, 5000))
def test_a_fitted_prompt_is_inside_its_frame(
    box: Box, points: list[tuple[float, float]], side: int
) -> None:
    prompt = FramePrompt("cat", 3, ObjectPrompt(9, box, tuple(points), (1,) * len(points)))
    if box.xmin >= side or box.ymin >= side or any(max(point) > side for point in points):
        with pytest.raises(PromptError, match="object 9 in frame 3 is outside the"):
            prompt.fit(side, side)
        return
    fitted = prompt.fit(side, side)
    clipped = Box(box.xmin, box.ymin, min(box.xmax, side), min(box.ymax, side))
    assert fitted == replace(prompt, prompt=replace(prompt.prompt, box=clipped))


def test_a_mask_is_of_its_frame() -> None:
    prompt = FramePrompt("cat", 3, ObjectPrompt(9, mask=MASK))
    assert prompt.fit(6, 4) == prompt
    with pytest.raises(PromptError, match="object 9 in frame 3 is 6x4, the frame is 4x6"):
        prompt.fit(4, 6)


CATEGORIES = (Category(1, "cat"), Category(2, "dog"))
PROVENANCE = {"version": "1"}


def frame(video: str, index: int, name: str | None, *found: Detected) -> AnnotatedImage:
    annotations = tuple(
        Annotation(each.label, each.score, each.box, each.box.area, track_id=each.track_id)
        for each in found
    )
    file_name = f"{video}/{name or f'frame_{index:06d}.png'}"
    return AnnotatedImage(file_name, "ab" * 32, 640, 480, 1, annotations, video, index, index / 30)


CAT = Detected("cat", 0.75, Box(1.0, 2.0, 30.0, 40.0), 5)
DOG = Detected("dog", None, Box(100.0, 2.0, 130.0, 40.0), 6)
LOOSE = Detected("dog", 0.25, Box(5.0, 5.0, 6.0, 6.0))


@pytest.mark.parametrize("name", ["out.json", "out.parquet"])
def test_what_was_written_of_videos_is_read(tmp_path: Path, name: str) -> None:
    images = [
        frame("a/clip.mp4", 0, None, CAT, DOG),
        frame("a/clip.mp4", 12, None),
        frame("a/clip.mp4", 1_000_000, None, replace(CAT, box=Box(0.0, 0.0, 9.0, 9.0))),
        frame("seq", 0, "0001.jpg", LOOSE, CAT),
        frame("seq", 1, "0002.jpg"),
    ]
    write = write_coco if name.endswith("json") else write_parquet
    write([*number(images, CATEGORIES)], tmp_path / name, CATEGORIES, PROVENANCE)
    found = read_detections(tmp_path / name)
    assert found.videos == {"a/clip.mp4", "seq"}
    assert found.at("a/clip.mp4", 0) == (CAT, DOG)
    assert found.at("a/clip.mp4", 12) == found.at("a/clip.mp4", 13) == ()
    assert found.at("a/clip.mp4", 1_000_000) == (replace(CAT, box=Box(0.0, 0.0, 9.0, 9.0)),)
    assert found.at("seq", 0, "0001.jpg") == (LOOSE, CAT)
    assert found.at("clip.mp4", 0) == ()
    assert found.are_tracked("a/clip.mp4")
    assert not found.are_tracked("seq")
    assert not found.are_tracked("clip.mp4")
    # To whoever reads images, the frames are images.
    assert read_boxes(tmp_path / name)["seq/0001.jpg"] == (
        LabelledBox("dog", LOOSE.box, 0.25),
        LabelledBox("cat", CAT.box, 0.75),
    )


def coco(path: Path, frames: Sequence[Mapping[str, Any]], **changes: Any) -> Path:
    """A file with a box as wide as the image's id in each image."""
    document = {
        "images": [{"id": at, **image} for at, image in enumerate(frames, start=1)],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": at, "image_id": at, "category_id": 1, "bbox": [0, 0, at, 1]}
            for at in range(1, len(frames) + 1)
        ],
        **changes,
    }
    path.write_text(json.dumps(document))
    return path


def widths(found: tuple[Detected, ...]) -> list[float]:
    return [each.box.xmax for each in found]


def test_frames_of_plain_images_are_known_by_their_names(tmp_path: Path) -> None:
    names = ["clip.mp4/frame_000012.png", "clip.mp4/frame_1234567.jpg", "clip.mp4/frame_12.png",
             "seq/0001.jpg", "seq/frame_000003.png", "alone.jpg"]  # fmt: skip
    path = coco(tmp_path / "a.json", [{"file_name": name} for name in names])
    found = read_detections(path)
    assert found.videos == {"clip.mp4", "seq"}
    assert widths(found.at("clip.mp4", 12)) == [1]
    assert widths(found.at("clip.mp4", 1234567)) == [2]
    assert widths(found.at("seq", 0, "0001.jpg")) == [4]
    # The folder's own numbers may begin at 1: they are names.
    assert widths(found.at("seq", 2, "frame_000003.png")) == [5]
    assert found.at("seq", 3, "frame_000004.png") == ()
    assert found.at("seq", 0) == ()


def test_frames_of_videos_that_others_named(tmp_path: Path) -> None:
    images: list[dict[str, Any]] = [
        {"file_name": "0001.jpg", "video_id": "v", "frame_index": 0},
        {"file_name": "0001.jpg", "video_id": 2, "frame_index": 7},
        {"file_name": "train/walk/0002.jpg", "video_id": "v"},
        {"file_name": "x.jpg", "video_id": "v", "frame_index": 5},
        {"file_name": "x.jpg", "video_id": "v", "frame_index": 5},
    ]
    videos = [{"id": "v", "file_name": "train/walk"}, {"id": 2, "file_name": "run.mp4"}]
    found = read_detections(coco(tmp_path / "a.json", images, videos=videos))
    assert found.videos == {"train/walk", "run.mp4"}
    assert widths(found.at("train/walk", 0, "0001.jpg")) == [1]
    assert widths(found.at("run.mp4", 7)) == [2]
    assert widths(found.at("train/walk", 3, "0002.jpg")) == [3]
    # A name that the file does not have: it says the index.
    assert widths(found.at("train/walk", 5, "0006.jpg")) == [4, 5]
    assert widths(found.at("train/walk", 5)) == [4, 5]


def row(**changes: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], **changes}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"videos": {}}, 'no "videos" list'),
        ({"videos": [{"id": 1}]}, 'video 1 has no "file_name"'),
        ({"videos": [{"name": "a"}]}, "video 'a' has no \"id\""),
        ({"videos": [{"id": 1, "name": "a"}] * 2}, "two of video 1"),
        ({"images": [{"id": 1, "file_name": "a/1.jpg", "video_id": 1}]}, 'unknown "video_id": 1'),
        ({"images": [{"id": 1, "file_name": "a/1.jpg", "frame_index": -1}]},
         'image 1 has a "frame_index" that is no whole number from 0: -1'),
        ({"images": [{"id": 1, "file_name": "a/1.jpg", "frame_index": 1.5}]}, "frame_index"),
        ({"annotations": [row(track_id="x")]},
         "annotation 1 has a \"track_id\" that is no whole number from 0: 'x'"),
        ({"annotations": [row(track_id=-1)]}, "no whole number from 0: -1"),
        ({"annotations": [row(track_id=2**63)]}, "no whole number from 0"),
        ({"annotations": [row(score=1.5)]}, "a box of 'a/1.jpg' has the score 1.5"),
        ({"annotations": [row(track_id=3), row(id=2, track_id=3)]},
         "frame '1.jpg' of 'a' has two boxes of the track 3"),
        ({"annotations": [row(bbox=[0, 0, 5])]}, 'no "bbox" of 4 finite numbers'),
    ],
)  # fmt: skip
def test_what_is_wrong_in_json_is_said(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    path = coco(tmp_path / "a.json", [{"file_name": "a/1.jpg"}], **changes)
    with pytest.raises(UsageError) as caught:
        read_detections(path)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)


def test_what_images_say_of_videos_is_nothing_to_a_reader_of_images(tmp_path: Path) -> None:
    images = [{"file_name": "a.jpg", "video_id": 9, "frame_index": "third"}]
    path = coco(tmp_path / "a.json", images, annotations=[row(track_id="left")], videos="none")
    assert read_boxes(path) == {"a.jpg": (LabelledBox("cat", Box(0.0, 0.0, 5.0, 5.0)),)}


CORNERS = dict(zip(Box._fields, (1.0, 2.0, 3.0, 4.0), strict=True))


def table(path: Path, *rows: dict[str, Any]) -> Path:
    pq.write_table(pa.Table.from_pylist([*rows]), path)
    return path


def test_a_parquet_file_without_videos_or_without_tracks(tmp_path: Path) -> None:
    annotations = [{"label": "cat", "bbox": CORNERS}]
    path = table(tmp_path / "a.parquet", {"file_name": "seq/1.jpg", "annotations": annotations})
    assert read_detections(path).at("seq", 4, "1.jpg") == (
        Detected("cat", None, Box(1.0, 2.0, 3.0, 4.0)),
    )
    # What is missing everywhere has no type.
    without = {"label": "cat", "score": 0.5, "bbox": CORNERS, "track_id": None}
    path = table(
        tmp_path / "b.parquet",
        {"file_name": "clip/frame_000002.png", "video": None, "frame_index": None,
         "annotations": [without]},
    )  # fmt: skip
    assert read_detections(path).at("clip", 2) == (Detected("cat", 0.5, Box(1.0, 2.0, 3.0, 4.0)),)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"video": 3}, "is not a Parquet file of annotations"),
        ({"frame_index": 1.5}, "is not a Parquet file of annotations"),
        ({"frame_index": -1}, "'seq/1.jpg' has a \"frame_index\" that is no whole number"),
        ({"annotations": [{"label": "cat", "bbox": CORNERS, "track_id": "x"}]},
         "is not a Parquet file of annotations"),
        ({"annotations": [{"label": "cat", "bbox": CORNERS, "track_id": -1}]},
         'has a "track_id" that is no whole number from 0: -1'),
        ({"annotations": [{"label": "cat", "bbox": CORNERS, "score": 1.01}]}, "the score 1.01"),
        ({"annotations": [{"label": "cat", "bbox": CORNERS | {"xmax": inf}}]}, "finite"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_parquet_is_said(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    annotations = [{"label": "cat", "bbox": CORNERS}]
    given = {"file_name": "seq/1.jpg", "annotations": annotations, **changes}
    with pytest.raises(UsageError) as caught:
        read_detections(table(tmp_path / "a.parquet", given))
    assert reason in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read boxes"):
        read_detections(tmp_path / "missing")


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(["a.mp4", "b"]), st.integers(0, 5)), unique=True))
def test_both_formats_say_the_same(
    tmp_path_factory: pytest.TempPathFactory, places: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("boxes")
    images = [
        frame(video, index, None, replace(CAT, track_id=at), replace(LOOSE, track_id=None))
        for at, (video, index) in enumerate(places)
    ]
    numbered = [*number(images, CATEGORIES)]
    write_coco(numbered, folder / "a.json", CATEGORIES, PROVENANCE)
    write_parquet(numbered, folder / "a.parquet", CATEGORIES, PROVENANCE)
    first, second = (read_detections(folder / name) for name in ("a.json", "a.parquet"))
    assert first.videos == second.videos == {video for video, _ in places}
    for video in ("a.mp4", "b"):
        for index in range(6):
            expected = [at for at, place in enumerate(places) if place == (video, index)]
            for found in (first, second):
                tracks = [each.track_id for each in found.at(video, index)]
                assert tracks == [each for at in expected for each in (at, None)]
