"""Folders of index masks, as readers of DAVIS read them."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray
from PIL import Image

from pixano_cli import rle
from pixano_cli.annotations import AnnotatedImage, Annotation
from pixano_cli.errors import OutputError
from pixano_cli.formats.davis import MAX_TRACKS, write_davis

from .samples import CATEGORIES, PROVENANCE, boxed, image, masked, numbered, writes_files
from .videos import frame, tracked, videos

CAT = masked("cat", slice(5, 20), slice(10, 30))
CUP = masked("cup", slice(10, 40), slice(20, 50))


def written(path: Path, made: list[AnnotatedImage]) -> dict[str, Any]:
    write_davis(iter(made), path, CATEGORIES, PROVENANCE)
    document: dict[str, Any] = json.loads((path / "tracks.json").read_bytes())
    return document


class Davis:
    """Reads as the DAVIS 2017 evaluation does: the videos of a set, their masks in order."""

    def __init__(self, root: Path) -> None:
        names = (root / "ImageSets" / "2017" / "val.txt").read_text(encoding="utf-8")
        self.videos = {
            line.strip(): sorted((root / "Annotations" / line.strip()).glob("*.png"))
            for line in names.splitlines()
        }

    def masks(self, video: str) -> dict[int, NDArray[np.uint8]]:
        return {int(path.stem): np.array(Image.open(path)) for path in self.videos[video]}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_layout(tmp_path: Path) -> None:
    out = tmp_path / "new" / "masks"
    made = numbered(
        frame("b/clip.mp4", 0, tracked(CUP, 9, 0.5), tracked(CAT, 7, 0.25)),
        frame("b/clip.mp4", 123456),
        frame("a.webm", 7, tracked(CAT, 9, None)),
    )
    tracks = written(out, made)
    assert sorted(contents(out)) == [
        "Annotations/a/00007.png",
        "Annotations/b/clip/00000.png",
        "Annotations/b/clip/123456.png",
        "ImageSets/2017/val.txt",
        "tracks.json",
    ]
    assert (out / "ImageSets" / "2017" / "val.txt").read_bytes() == b"b/clip\na\n"
    assert tracks == {
        "info": PROVENANCE,
        "categories": [
            {"id": 17, "name": "cat", "supercategory": "animal"},
            {"id": 47, "name": "cup"},
            {"id": 1, "name": "père Noël"},
        ],
        "videos": [
            {
                "name": "b/clip.mp4",
                "folder": "b/clip",
                "width": 64,
                "height": 48,
                "frames": 2,
                "frames_with_objects": 1,
                "frames_with_boxes_only": 0,
                "tracks": [
                    {"number": 1, "track_id": 9, "category_id": 47, "label": "cup", "score": 0.5},
                    {"number": 2, "track_id": 7, "category_id": 17, "label": "cat", "score": 0.25},
                ],
            },
            {
                "name": "a.webm",
                "folder": "a",
                "width": 64,
                "height": 48,
                "frames": 1,
                "frames_with_objects": 1,
                "frames_with_boxes_only": 0,
                "tracks": [{"number": 1, "track_id": 9, "category_id": 17, "label": "cat"}],
            },
        ],
    }


def test_a_picture_is_of_indices_with_the_known_palette(tmp_path: Path) -> None:
    written(tmp_path / "masks", numbered(frame("a.mp4", 0, tracked(CAT, 1))))
    with Image.open(tmp_path / "masks" / "Annotations" / "a" / "00000.png") as picture:
        assert (picture.mode, picture.size) == ("P", (64, 48))
        palette = picture.getpalette()
        assert palette is not None
        colours = [tuple(palette[at : at + 3]) for at in range(0, 768, 3)]
        assert picture.convert("RGB").getpixel((20, 10)) == (128, 0, 0)
    assert colours[:9] == [
        (0, 0, 0),
        (128, 0, 0),
        (0, 128, 0),
        (128, 128, 0),
        (0, 0, 128),
        (128, 0, 128),
        (0, 128, 128),
        (128, 128, 128),
        (64, 0, 0),
    ]
    assert colours[255] == (224, 224, 192)
    assert len(set(colours)) == 256


@writes_files
@given(made=videos())
def test_readers_find_every_pixels_best_object_again(
    tmp_path_factory: pytest.TempPathFactory, made: list[AnnotatedImage]
) -> None:
    folder = tmp_path_factory.mktemp("davis")
    found = [each for frame in made for each in frame.annotations]
    if found and all(each.mask is None for each in found):
        with pytest.raises(OutputError, match="not one mask"):
            written(folder / "masks", made)
        assert [*folder.iterdir()] == []
        return
    tracks = written(folder / "masks", made)
    written(folder / "again", made)
    assert contents(folder / "again") == contents(folder / "masks")
    reader = Davis(folder / "masks")
    by_video = [(name, [*frames]) for name, frames in groupby(made, key=lambda each: each.video)]
    assert [row["name"] for row in tracks["videos"]] == [name for name, _ in by_video]
    assert [*reader.videos] == [row["folder"] for row in tracks["videos"]]
    for (_, frames), row in zip(by_video, tracks["videos"], strict=True):
        masks = reader.masks(row["folder"])
        known = [each for each in frames if not each.annotations or masked_ones(each)]
        assert [*masks] == [each.frame_index for each in known]
        assert row["frames"] == len(known)
        assert row["frames_with_boxes_only"] == len(frames) - len(known)
        assert row["frames_with_objects"] == sum(bool(each.annotations) for each in known)
        ids = {each["number"]: each.get("track_id") for each in row["tracks"]}
        assert [*ids] == [*range(1, len(ids) + 1)]
        for each in known:
            assert each.frame_index is not None
            pixels = masks[each.frame_index]
            assert pixels.shape == (each.height, each.width)
            covered = np.zeros(pixels.shape, bool)
            for annotation in masked_ones(each):
                assert annotation.mask is not None
                seen = rle.decode(annotation.mask) & ~covered
                covered |= seen
                assert {ids[number] for number in pixels[seen]} <= {annotation.track_id}
            assert np.array_equal(pixels > 0, covered)


def masked_ones(frame: AnnotatedImage) -> list[Annotation]:
    return [each for each in frame.annotations if each.mask is not None]


def test_the_better_score_is_on_top(tmp_path: Path) -> None:
    made = numbered(
        frame("a.mp4", 0, tracked(CAT, 1, 0.9), tracked(CUP, 2, 0.8)),
        frame("a.mp4", 1, tracked(CAT, 1, 0.7), tracked(CUP, 2, 0.8)),
    )
    written(tmp_path / "masks", made)
    masks = Davis(tmp_path / "masks").masks("a")
    assert [masks[at][15, 25] for at in (0, 1)] == [1, 2]
    assert [masks[at][5, 12] for at in (0, 1)] == [1, 1]


def test_frames_whose_masks_nobody_knows_have_no_picture(tmp_path: Path) -> None:
    box = boxed("cat", 1, 2, 30, 40)
    made = numbered(
        frame("a.mp4", 0, tracked(CAT, 1)),
        frame("a.mp4", 1, tracked(box, 1)),
        frame("a.mp4", 2),
    )
    (row,) = written(tmp_path / "masks", made)["videos"]
    masks = Davis(tmp_path / "masks").masks("a")
    assert {at: int(mask.max()) for at, mask in masks.items()} == {0: 1, 2: 0}
    assert (row["frames"], row["frames_with_boxes_only"]) == (2, 1)


def test_boxes_alone_are_refused(tmp_path: Path) -> None:
    made = numbered(frame("a.mp4", 0, tracked(boxed("cat", 1, 2, 30, 40), 1)))
    with pytest.raises(OutputError, match=r"masks: there are boxes and not one mask"):
        written(tmp_path / "masks", made)
    assert [*tmp_path.iterdir()] == []


def test_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"'photo\.jpg' is not a frame of a video, and DAVIS"):
        written(tmp_path / "masks", numbered(image("photo.jpg")))
    assert [*tmp_path.iterdir()] == []


def test_the_numbers_end_before_the_one_that_does_not_count(tmp_path: Path) -> None:
    def crowd(tracks: int) -> list[AnnotatedImage]:
        return numbered(*(frame("a.mp4", at, tracked(CAT, at)) for at in range(tracks)))

    written(tmp_path / "masks", crowd(MAX_TRACKS))
    masks = Davis(tmp_path / "masks").masks("a")
    assert masks[MAX_TRACKS - 1].max() == 254
    before = contents(tmp_path / "masks")
    with pytest.raises(OutputError, match=r"'a\.mp4' has more than 254 tracks.*--threshold"):
        written(tmp_path / "masks", crowd(MAX_TRACKS + 1))
    assert contents(tmp_path / "masks") == before
    assert [*tmp_path.iterdir()] == [tmp_path / "masks"]


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (["clip.mp4", "b/clip.mp4"], ["clip", "b/clip"]),
        (["clip.avi", "clip.mp4", "clip"], ["clip", "clip.mp4", "clip-2"]),
        (["Clip.mp4", "clip.MP4", "CLIP.mp4"], ["Clip", "clip.MP4", "CLIP.mp4-2"]),
        (["take.1", "take.2", ".mp4"], ["take.1", "take.2", ".mp4"]),
        (["../a.mp4", "/b.mp4", "x/./y.gif", "//"], ["_/a", "b", "x/y", "_"]),
        (["line\nbreak.mp4", " spaced .mp4"], ["line_break", "spaced"]),
    ],
)
def test_each_video_has_a_folder_named_like_it(
    tmp_path: Path, names: list[str], folders: list[str]
) -> None:
    tracks = written(tmp_path / "masks", numbered(*(frame(name, 0) for name in names)))
    assert [(row["name"], row["folder"]) for row in tracks["videos"]] == [
        *zip(names, folders, strict=True)
    ]
    reader = Davis(tmp_path / "masks")
    assert [*reader.videos] == folders
    assert all(len(pictures) == 1 for pictures in reader.videos.values())
    assert [*tmp_path.iterdir()] == [tmp_path / "masks"]


@pytest.mark.skipif(sys.platform == "win32", reason="names are text there")
def test_a_name_that_is_not_utf8_is_one_that_readers_can_say(tmp_path: Path) -> None:
    tracks = written(tmp_path / "masks", numbered(frame("caf\udce9.mp4", 0)))
    assert tracks["videos"][0]["folder"] == "caf\\udce9"
    assert len(Davis(tmp_path / "masks").videos["caf\\udce9"]) == 1


def test_the_earlier_folder_goes_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "masks"
    written(out, numbered(frame("a.mp4", 0), frame("b.mp4", 0)))
    written(out, numbered(frame("c.mp4", 1)))
    assert sorted(contents(out)) == [
        "Annotations/c/00001.png",
        "ImageSets/2017/val.txt",
        "tracks.json",
    ]
    assert [*tmp_path.iterdir()] == [out]


WRITE = """
import sys
from pathlib import Path
import numpy as np
from pixano_cli import rle
from pixano_cli.annotations import AnnotatedImage, Annotation, Box, Category, number
from pixano_cli.formats import write

path, frames = Path(sys.argv[1]), int(sys.argv[2])
mask = np.zeros((48, 64), bool)
mask[5:20, 10:30] = True
mask = rle.encode(mask)

def images():
    for at in range(frames):
        found = tuple(
            Annotation("cat", 0.5, Box(10, 5, 30, 20), 300, mask, track) for track in range(10)
        )
        yield AnnotatedImage(f"a.mp4/{at}.png", "ab", 64, 48, 1, found, "a.mp4", at)

categories = [Category(1, "cat")]
write("davis", number(images(), categories), path, categories, {"version": "1"})
status = Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_longer_video_needs_no_more_memory(tmp_path: Path) -> None:
    peaks = []
    for frames in (100, 2000):
        run = subprocess.run(
            [sys.executable, "-c", WRITE, str(tmp_path / "masks"), str(frames)],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(run.stdout) / 1e6)
        assert len([*(tmp_path / "masks" / "Annotations" / "a").iterdir()]) == frames
    assert peaks[1] - peaks[0] < 5
