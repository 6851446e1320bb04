"""What is followed, and in which frames: prompts, earlier outputs, and the frames looked at."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from pycocotools import mask as coco_mask

from .clips import Square, iou, write_clip
from .tool import Done, Log

Command = Callable[..., Done]

MODELS = ("-m", "square-segmenter", "--detector", "square-detector")
FRAMES = 30
RED, GREEN, BLUE = SQUARES = (
    Square("red", 4, 8, 2.0, 0.2),
    Square("green", 130, 60, -1.6, -0.3),
    Square("blue", 30, 66, 0.5, 0.1, first=10),
)


class Videos:
    """Runs `segment-video` on a folder, and reads what it writes."""

    def __init__(self, command: Command, work: Path) -> None:
        self.command = command
        self.work = work

    def __call__(self, *options: object, code: int = 0) -> Done:
        models = MODELS[:2] if "--from" in options else MODELS
        done = self.command(
            *("segment-video", "videos", *models, "-o", "out.json", "--json"), *options
        )
        assert done.code == code, done.err
        return done

    def prompt(self, *entries: dict[str, Any], code: int = 0, **videos: Any) -> Done:
        prompts = {"a.mp4": entries} if entries else videos
        (self.work / "prompts.json").write_bytes(orjson.dumps(prompts))
        return self("--prompts", "prompts.json", code=code)

    @property
    def document(self) -> dict[str, Any]:
        return orjson.loads((self.work / "out.json").read_bytes())

    def found(self, video: int = 1) -> dict[int, dict[int, dict[str, Any]]]:
        """Return the annotations by track and frame."""
        document = self.document
        frames = {each["id"]: each["frame_index"] for each in document["images"]}
        names = {each["id"]: each["name"] for each in document["categories"]}
        found: dict[int, dict[int, dict[str, Any]]] = {}
        for each in document["annotations"]:
            if each["video_id"] == video:
                frame = found.setdefault(each["track_id"], {})
                frame[frames[each["image_id"]]] = each | {"label": names[each["category_id"]]}
        return found

    def failure(self) -> str:
        rows = (self.work / "out.json.failed.jsonl").read_bytes().splitlines()
        return str(orjson.loads(rows[0])["message"])


@pytest.fixture
def videos(command: Command, work: Path) -> Videos:
    # With a colour for each pixel, so that boxes are true to the pixel.
    write_clip(work / "videos" / "a.mp4", FRAMES, SQUARES, pix_fmt="yuv444p")
    return Videos(command, work)


def overlap(annotation: dict[str, Any], box: Sequence[float]) -> float:
    x, y, width, height = annotation["bbox"]
    return iou((x, y, x + width, y + height), box)


def assert_follows(
    seen: dict[int, dict[str, Any]], square: Square, frames: Sequence[int], *, masked: bool = True
) -> None:
    assert sorted(seen) == list(frames)
    for frame, each in seen.items():
        assert overlap(each, square.box(frame)) > 0.8, frame
        assert ("segmentation" in each) == masked, frame


class TestPrompts:
    def test_a_box_names_one_of_the_objects(self, videos: Videos) -> None:
        box = [*GREEN.box(0)]
        videos.prompt({"object_id": 7, "label": "leaf", "frame_index": 0, "box": box})
        found = videos.found()
        assert list(found) == [7]
        assert_follows(found[7], GREEN, range(FRAMES))
        assert {each["label"] for each in found[7].values()} == {"leaf"}

    def test_points_and_masks_do_as_well(self, videos: Videos) -> None:
        inside = np.zeros((96, 160), np.uint8, order="F")
        left, top, right, bottom = map(int, GREEN.box(3))
        inside[top:bottom, left:right] = 1
        mask = coco_mask.encode(inside)
        mask["counts"] = mask["counts"].decode()
        x, y = RED.box(0)[:2]
        videos.prompt(
            {"object_id": 1, "frame_index": 0, "points": [[x + 9, y + 9]], "labels": [1]},
            {"object_id": 2, "frame_index": 3, "mask": mask},
        )
        found = videos.found()
        assert sorted(found) == [1, 2]
        assert_follows(found[1], RED, range(FRAMES))
        # It begins where it is named.
        assert_follows(found[2], GREEN, range(3, FRAMES))
        assert found[2][3]["segmentation"]["counts"] == mask["counts"]

    def test_one_that_begins_later_and_one_that_is_corrected(self, videos: Videos) -> None:
        wrong = [*GREEN.box(0)]
        videos.prompt(
            {"object_id": 1, "frame_index": 12, "box": [*BLUE.box(12)]},
            {"object_id": 2, "frame_index": 0, "box": wrong},
            {"object_id": 2, "frame_index": 8, "box": [*RED.box(8)]},
        )
        found = videos.found()
        assert_follows(found[1], BLUE, range(12, FRAMES))
        corrected = {frame: each for frame, each in found[2].items() if frame >= 8}
        assert_follows(corrected, RED, range(8, FRAMES))
        assert overlap(found[2][0], wrong) > 0.8

    @pytest.mark.parametrize(("wrong", "right"), [(RED, GREEN), (GREEN, RED)], ids=str)
    def test_a_correction_counts_from_its_frame_on(
        self, videos: Videos, wrong: Square, right: Square
    ) -> None:
        """Also where the detector is surer of what it was taken for before."""
        videos.prompt(
            {"object_id": 2, "frame_index": 0, "box": [*wrong.box(0)]},
            {"object_id": 2, "frame_index": 8, "box": [*right.box(8)]},
        )
        (seen,) = videos.found().values()
        assert_follows({f: seen[f] for f in range(8)}, wrong, range(8))
        assert_follows({f: seen[f] for f in range(8, FRAMES)}, right, range(8, FRAMES))
        # Nothing flies from the one to the other between two looks of the detector.
        videos("--prompts", "prompts.json", "--detect-every", 5)
        (seen,) = videos.found().values()
        for frame, each in seen.items():
            square = wrong if frame < 8 else right
            assert overlap(each, square.box(frame)) > 0.7, frame

    @pytest.mark.parametrize(
        ("frame", "options"),
        [(FRAMES, ()), (99, ()), (5, ("--every", 2)), (3, ("--start", 0.5)), (28, ("--end", 1))],
    )
    def test_a_frame_that_is_not_looked_at(
        self, videos: Videos, frame: int, options: tuple[object, ...]
    ) -> None:
        write_clip(videos.work / "videos" / "b.mp4", 4, SQUARES)
        box = [*RED.box(frame if frame < FRAMES else 0)]
        entry = {"object_id": 1, "frame_index": frame, "box": box}
        good = {"object_id": 1, "frame_index": 0, "box": [*RED.box(0)]}
        prompts = {"a.mp4": [entry], "b.mp4": [] if options else [good]}
        (videos.work / "prompts.json").write_bytes(orjson.dumps(prompts))
        done = videos("--prompts", "prompts.json", *options, code=3)
        assert done.summary["failed"] == 1 + ("--start" in options)
        assert f"object 1 is prompted in frame {frame}, which is not among" in videos.failure()

    def test_a_box_beside_the_frame(self, videos: Videos) -> None:
        videos.prompt({"object_id": 1, "frame_index": 0, "box": [500, 500, 600, 600]}, code=3)
        assert "object 1" in videos.failure() or "frame 0" in videos.failure()

    def test_a_video_without_prompts_has_frames_without_objects(self, videos: Videos) -> None:
        write_clip(videos.work / "videos" / "b.mp4", 4, SQUARES)
        done = videos.prompt({"object_id": 1, "frame_index": 0, "box": [*RED.box(0)]})
        assert done.summary["frames"] == FRAMES + 4
        assert done.summary["annotations"] == FRAMES
        assert done.summary["empty"] == 4

    def test_only_what_changes_is_asked_again(self, videos: Videos, log: Log) -> None:
        entry = {"object_id": 1, "frame_index": 0, "box": [*RED.box(0)]}
        videos.prompt(entry)
        calls = len(log)
        assert videos.prompt(entry).summary["cached"] == 1
        other = {"object_id": 2, "frame_index": 0, "box": [*GREEN.box(0)]}
        videos.prompt(entry, other)
        assert log.count("detect") == FRAMES
        assert len(log) == calls + FRAMES
        assert sorted(videos.found()) == [1, 2]


class TestFrom:
    def test_an_earlier_output_keeps_its_tracks(self, videos: Videos, log: Log) -> None:
        videos("-o", "out.parquet")
        first = videos.found()
        assert sorted(first) == [1, 2]
        asked = log.count("segment")
        for output in ("out.json", "out.parquet"):
            (videos.work / output).rename(videos.work / f"earlier-{output}")
            videos("--from", f"earlier-{output}", "-o", "out.parquet")
            again = videos.found()
            assert again.keys() == first.keys()
            for track, seen in first.items():
                assert {f: each["bbox"] for f, each in again[track].items()} == {
                    f: each["bbox"] for f, each in seen.items()
                }
        assert log.count("detect") == FRAMES
        # Boxes of masks are those that were found here.
        assert log.count("segment") == asked

    def test_tracks_of_a_folder_of_frames(self, videos: Videos) -> None:
        from PIL import Image

        from .clips import pictures

        folder = videos.work / "videos" / "shots"
        folder.mkdir()
        for index, picture in enumerate(pictures(9, SQUARES)):
            Image.fromarray(picture).save(folder / f"s{index}.png")
        videos()
        first = videos.found(video=2)
        (videos.work / "out.json").rename(videos.work / "earlier.json")
        videos("--from", "earlier.json")
        assert videos.found(video=2) == first
        assert len(first) == 2

    def test_boxes_without_tracks_are_linked(self, videos: Videos) -> None:
        """As `detect` writes them of frames that somebody took out of the video."""
        images, boxes = [], []
        for frame in range(FRAMES):
            name = f"a.mp4/frame_{frame:06d}.png"
            images.append({"id": frame + 1, "file_name": name, "width": 160, "height": 96})
            for square in (RED, BLUE):
                if square.is_there(frame):
                    left, top, right, bottom = square.box(frame)
                    boxes.append(
                        {
                            "id": len(boxes) + 1,
                            "image_id": frame + 1,
                            "category_id": 1 + (square is BLUE),
                            "bbox": [left, top, right - left, bottom - top],
                            "score": 0.6,
                        }
                    )
        categories = [{"id": 1, "name": "warm"}, {"id": 2, "name": "cold"}]
        document = {"images": images, "annotations": boxes, "categories": categories}
        (videos.work / "boxes.json").write_bytes(orjson.dumps(document))
        videos("--from", "boxes.json")
        found = videos.found()
        assert_follows(found[1], RED, range(FRAMES))
        assert_follows(found[2], BLUE, range(10, FRAMES))
        assert found[1][0]["label"] == "warm"
        assert found[1][0]["score"] == 0.6
        assert videos("--from", "boxes.json", "--threshold", 0.7).summary["annotations"] == 0
        videos("--from", "boxes.json", "--classes", "cold")
        assert list(videos.found()) == [1]

    def test_a_file_that_knows_none_of_the_videos(self, videos: Videos) -> None:
        frame = {"id": 1, "file_name": "b.mp4/frame_000000.png", "width": 160, "height": 96}
        kinds = [{"id": 1, "name": "warm"}]
        document = {"images": [frame], "annotations": [], "categories": kinds}
        (videos.work / "boxes.json").write_bytes(orjson.dumps(document))
        done = videos("--from", "boxes.json")
        assert done.summary["annotations"] == 0
        assert done.summary["empty"] == FRAMES
        assert "a.mp4 is not in the file of --from, which has b.mp4" in done.err


class TestFrames:
    def test_masks_in_some_frames_only(self, videos: Videos, log: Log) -> None:
        videos("--mask-every", 4)
        found = videos.found()
        masked = [*range(0, FRAMES, 4)]
        for track, square in ((1, RED), (2, GREEN)):
            seen = found[track]
            assert_follows({f: seen[f] for f in masked}, square, masked)
            rest = [frame for frame in range(FRAMES) if frame not in masked]
            assert_follows({f: seen[f] for f in rest}, square, rest, masked=False)
        assert log.count("segment") == len(masked)

    def test_no_mask_is_interpolated(self, videos: Videos, log: Log) -> None:
        """Between two looks boxes are interpolated; a mask is made in its own frame or not."""
        videos("--detect-every", 5, "--mask-every", 2)
        assert log.count("detect") == 7
        found = videos.found()
        masked = [*range(0, FRAMES, 2)]
        assert log.count("segment") == len(masked)
        for track, square in ((1, RED), (2, GREEN)):
            seen = found[track]
            assert sorted(seen) == list(range(FRAMES))
            for frame, each in seen.items():
                assert overlap(each, square.box(frame)) > 0.75
                assert ("segmentation" in each) == (frame in masked)
                if frame in masked:
                    inside = coco_mask.decode(each["segmentation"])
                    left, top, right, bottom = map(int, square.box(frame))
                    assert inside[top:bottom, left:right].mean() > 0.85
                    assert inside.sum() == inside[top:bottom, left:right].sum()

    @pytest.mark.parametrize(
        ("options", "frames"),
        [
            (("--every", 7), [0, 7, 14, 21, 28]),
            (("--fps", 5), [0, 5, 10, 15, 20, 25]),
            (("--start", "0.4", "--end", "0:00:00.8"), range(10, 20)),
            (("--start", "0.4", "--every", 4), [12, 16, 20, 24, 28]),
            (("--start", "0.42", "--fps", 12.5), [11, *range(12, 30, 2)]),
            (("--end", "100"), range(30)),
            (("--fps", 1000), range(30)),
        ],
        ids=str,
    )
    def test_frames_keep_the_index_of_the_source(
        self, videos: Videos, log: Log, options: tuple[object, ...], frames: Sequence[int]
    ) -> None:
        done = videos(*options)
        images = videos.document["images"]
        indexes = [each["frame_index"] for each in images]
        assert indexes == [*frames]
        assert all(
            each["timestamp_s"] == pytest.approx(each["frame_index"] / 25) for each in images
        )
        assert [each["file_name"] for each in images] == [
            f"a.mp4/frame_{index:06d}.png" for index in indexes
        ]
        assert log.count("detect") == done.summary["frames"] == len(indexes)

    def test_nothing_is_left_of_a_video(self, videos: Videos) -> None:
        videos("--start", 100, code=3)
        assert "--start" in videos.failure()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--every", 0), "--every"),
        (("--fps", -1), "--fps"),
        (("--every", 2, "--fps", 2), "exclude each other"),
        (("--start", "x"), "--start 'x': a time is wanted"),
        (("--start", 2, "--end", 1), "--end"),
        (("--mask-every", 0), "--mask-every 0: at least 1"),
        (("--detect-every", 0), "--detect-every 0: at least 1"),
        (("--checkpoint-every", 0), "--checkpoint-every 0: at least 1"),
        (("--prompts", "p.json", "--from", "b.json"), "only one of them"),
        (("--from", "b.json", "--detector", "square-detector"), "only one of them"),
        (("--prompts", "absent.json"), "absent.json"),
        (("--from", "absent.json"), "absent.json"),
        (("--from", "b.txt"), "b.txt"),
        (("--prompts", "bad.json"), "bad.json"),
        (("--prompts", "other.json"), "none of the 1 files with prompts"),
        (("--classes", "violet"), "violet"),
        (("--threshold", 2), "threshold"),
        (("--format", "mp4"), "unknown format 'mp4'"),
        (("-o", "out.csv"), "unknown output format"),
        (("-o", "folder.json", "--format", "davis"), "davis makes a folder"),
        (("-m", "square-detector"), "square-detector"),
        (("-m", "sqare-segmenter"), "square-segmenter"),
        (("--format", "youtube-vis", "-o", "videos/a.mp4"), "one of the sources"),
    ],
    ids=str,
)
def test_wrong_usage(
    command: Command, work: Path, log: Log, options: tuple[object, ...], says: str
) -> None:
    write_clip(work / "videos" / "a.mp4", 2)
    (work / "b.txt").write_text("x")
    (work / "bad.json").write_text('{"a.mp4": [{"object_id": 1}]}')
    (work / "other.json").write_text('{"b.mp4": []}')
    models = () if "--from" in options or "-m" in options else MODELS
    outputs = () if "-o" in options else ("-o", "out.json")
    done = command("segment-video", "videos", *models, *outputs, *options)
    assert done.code == 2, done
    assert says in done.line
    assert len(log) == 0
    assert not (work / "out.json").exists()
