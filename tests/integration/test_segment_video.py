"""The default way through a video, with the embedded models: it is true, and its tools read it."""

import contextlib
import io
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import duckdb
import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval

from pixano_cli.cli.app import run

from .clips import iou, write_clip
from .coco_files import read
from .tool import SAMPLES

FRAMES = 60
MASK_EVERY = 12
# The cup in coffee.png by eye, with its handle: xmin, ymin, xmax, ymax.
CUP = (172.0, 17.0, 409.0, 307.0)


@dataclass(frozen=True)
class Made:
    """A folder with all outputs of a run over the sample video."""

    folder: Path
    printed: dict[str, Any]

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    @property
    def document(self) -> dict[str, Any]:
        return orjson.loads((self / "out.json").read_bytes())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("pan")
    store = ("--store", str(folder / "store"))
    outputs = [part for kind in ("json", "parquet") for part in ("-o", str(folder / f"out.{kind}"))]
    video = str(SAMPLES / "pan.mp4")
    options = ("--mask-every", str(MASK_EVERY), "--preview", str(folder / "shown"), "--json")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert run(["segment-video", video, *options, *outputs, *store, "-q"]) == 0
    for name, output in (("youtube-vis", "vis.json"), ("davis", "davis")):
        assert run(["export", "-o", str(folder / output), "--format", name, *store, "-q"]) == 0
    return Made(folder, json.loads(printed.getvalue()))


def overlaps(document: dict[str, Any], truth: list[list[float]], label: str) -> list[float]:
    """Return the overlap with the truth in each frame of the one track of a label."""
    frames = {each["id"]: each["frame_index"] for each in document["images"]}
    kinds = {each["id"]: each["name"] for each in document["categories"]}
    found = [each for each in document["annotations"] if kinds[each["category_id"]] == label]
    assert len({each["track_id"] for each in found}) == 1
    boxes = {frames[each["image_id"]]: each["bbox"] for each in found}
    assert len(boxes) == len(found)
    overlaps = [0.0] * len(truth)
    for frame, (x, y, width, height) in boxes.items():
        overlaps[frame] = iou((x, y, x + width, y + height), truth[frame])
    return overlaps


class TestTruth:
    def test_the_person_in_the_sample_video(self, made: Made) -> None:
        truth = json.loads((SAMPLES / "pan.json").read_bytes())
        found = overlaps(made.document, truth["boxes"], truth["label"])
        print(f"mean IoU {np.mean(found):.4f}, lowest {min(found):.4f} in {len(found)} frames")
        assert len(found) == FRAMES
        assert np.mean(found) >= 0.80
        assert min(found) >= 0.80
        assert len(made.document["annotations"]) == FRAMES

    @pytest.mark.long
    def test_with_a_mask_in_every_frame(self, tmp_path: Path) -> None:
        output = tmp_path / "out.json"
        video, store = str(SAMPLES / "pan.mp4"), str(tmp_path / "store")
        assert run(["segment-video", video, "-o", str(output), "--store", store, "-q"]) == 0
        truth = json.loads((SAMPLES / "pan.json").read_bytes())
        document = json.loads(output.read_bytes())
        found = overlaps(document, truth["boxes"], truth["label"])
        print(f"mean IoU {np.mean(found):.4f}, lowest {min(found):.4f} in {len(found)} frames")
        assert np.mean(found) >= 0.80
        assert min(found) > 0.5
        assert all("segmentation" in each for each in document["annotations"])

    def test_another_photograph_and_another_motion(self, tmp_path: Path) -> None:
        """A hand that shakes and comes closer, over a cup."""
        frames, size = 40, (360, 240)
        with Image.open(SAMPLES / "coffee.png") as opened:
            photograph = opened.convert("RGB")
        pictures, truth = [], []
        for frame in range(frames):
            way = frame / (frames - 1)
            width = 500.0 - 110.0 * way
            left = 50.0 + 40.0 * math.sin(3 * math.pi * way)
            top = 12.0 * (1 - math.cos(2 * math.pi * way)) / 2
            box = (left, top, left + width, top + width * size[1] / size[0])
            pictures.append(np.asarray(photograph.resize(size, Image.Resampling.LANCZOS, box=box)))
            scale = size[0] / width
            moved = zip(CUP, (left, top, left, top), size * 2, strict=True)
            truth.append([min(max(scale * (at - zero), 0.0), end) for at, zero, end in moved])
        video = write_clip(tmp_path / "cup.mp4", size=size, frames=pictures)
        output = tmp_path / "out.json"
        options = ("--classes", "cup", "--mask-every", "13", "-q")
        store = str(tmp_path / "store")
        assert (
            run(["segment-video", str(video), *options, "-o", str(output), "--store", store]) == 0
        )
        found = overlaps(json.loads(output.read_bytes()), truth, "cup")
        print(f"mean IoU {np.mean(found):.4f}, lowest {min(found):.4f} in {len(found)} frames")
        assert np.mean(found) >= 0.80
        assert min(found) > 0.5


class TestOutputs:
    def test_the_summary(self, made: Made) -> None:
        told = {key: value for key, value in made.printed.items() if key != "seconds"}
        written = ["out.json", "out.parquet", "shown/pan.mp4.preview.mp4"]
        assert told == {
            "task": "segment-video",
            "model": "mobile-sam",
            "provider": "local",
            "total": 1,
            "processed": 1,
            "cached": 0,
            "failed": 0,
            "frames": FRAMES,
            "empty": 0,
            "annotations": FRAMES,
            "outputs": [str(made / name) for name in written],
        }

    def test_coco_in_pycocotools(self, made: Made) -> None:
        coco = read(made / "out.json")
        assert len(coco.imgs) == FRAMES
        assert {each["video_id"] for each in coco.imgs.values()} == {1}
        assert [each["frame_index"] for each in coco.imgs.values()] == list(range(FRAMES))
        for annotation in coco.anns.values():
            frame = coco.imgs[annotation["image_id"]]["frame_index"]
            assert ("segmentation" in annotation) == (frame % MASK_EVERY == 0)
            if "segmentation" in annotation:
                assert coco.annToMask(annotation).sum() == annotation["area"] > 10_000
        (made / "results.json").write_bytes(orjson.dumps([*coco.anns.values()]))
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(coco, coco.loadRes(str(made / "results.json")), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        assert evaluation.stats[0] == pytest.approx(1.0)

    def test_parquet_in_arrow_and_duckdb(self, made: Made) -> None:
        table = pq.read_table(made / "out.parquet")
        rows = table.to_pylist()
        assert [row["frame_index"] for row in rows] == list(range(FRAMES))
        assert {row["video"] for row in rows} == {"pan.mp4"}
        coco = made.document
        by_frame = {each["id"]: each["frame_index"] for each in coco["images"]}
        for each in coco["annotations"]:
            (own,) = rows[by_frame[each["image_id"]]]["annotations"]
            x, y, width, height = each["bbox"]
            box = [own["bbox"][side] for side in ("xmin", "ymin", "xmax", "ymax")]
            assert box == pytest.approx([x, y, x + width, y + height], abs=0.02)
            assert own["track_id"] == each["track_id"] == 1
            if "segmentation" in each:
                assert own["mask"]["counts"] == each["segmentation"]["counts"]
            else:
                assert own["mask"] is None
        (told,) = duckdb.sql(
            "SELECT count(*), max(timestamp_s), count(DISTINCT object.track_id) FROM"
            f" (SELECT timestamp_s, unnest(annotations) AS object FROM '{made / 'out.parquet'}')"
        ).fetchall()
        assert told == (FRAMES, pytest.approx(59 / 30), 1)

    def test_frames_are_where_ffprobe_has_them(self, made: Made) -> None:
        from .test_segment_video_faults import shown

        times = [each["timestamp_s"] for each in made.document["images"]]
        assert times == pytest.approx(shown(SAMPLES / "pan.mp4"), abs=1e-6)

    def test_youtube_vis_as_its_readers_index_it(self, made: Made) -> None:
        document = json.loads((made / "vis.json").read_bytes())
        (video,) = document["videos"]
        assert video["length"] == len(video["file_names"]) == FRAMES
        (track,) = document["annotations"]
        assert (track["video_id"], track["iscrowd"]) == (video["id"], 0)
        assert len(track["segmentations"]) == len(track["bboxes"]) == len(track["areas"]) == FRAMES
        for frame, mask in enumerate(track["segmentations"]):
            assert (mask is not None) == (frame % MASK_EVERY == 0)
            if mask is not None:
                decoded = coco_mask.decode(mask)
                assert decoded.shape == (video["height"], video["width"])
                assert decoded.sum() == track["areas"][frame]
        kinds = {each["id"]: each["name"] for each in document["categories"]}
        assert kinds[track["category_id"]] == "person"

    def test_index_masks_in_pillow(self, made: Made) -> None:
        coco = read(made / "out.json")
        pictures = sorted((made / "davis" / "Annotations").rglob("*.png"))
        assert [int(path.stem) for path in pictures] == list(range(0, FRAMES, MASK_EVERY))
        masks = {
            coco.imgs[each["image_id"]]["frame_index"]: coco.annToMask(each)
            for each in coco.anns.values()
            if "segmentation" in each
        }
        for path in pictures:
            with Image.open(path) as picture:
                assert picture.mode == "P"
                assert np.array_equal(np.asarray(picture), masks[int(path.stem)])

    def test_the_preview_plays(self, made: Made) -> None:
        with (
            av.open(str(made / "shown" / "pan.mp4.preview.mp4")) as preview,
            av.open(str(SAMPLES / "pan.mp4")) as video,
        ):
            assert float(preview.streams.video[0].average_rate) == pytest.approx(30)
            drawn = [frame.to_ndarray(format="rgb24") for frame in preview.decode(video=0)]
            plain = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
        assert len(drawn) == len(plain) == FRAMES
        masked = read(made / "out.json")
        for index in (0, 5, MASK_EVERY):
            changed = np.abs(drawn[index].astype(int) - plain[index]).max(axis=2) > 40
            assert changed.any()
            if index % MASK_EVERY == 0:
                inside = masked.annToMask(masked.anns[index + 1]).astype(bool)
                assert changed[inside].mean() > 2 * changed[~inside].mean()


class TestPython:
    def test_the_function(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import pixano_cli

        monkeypatch.delenv("PIXANO_STORE", raising=False)
        seen: list[int] = []

        class Progress:
            def start(self, total: int, cached: int) -> None:
                seen.append(total)

            def advance(self, outcome: object) -> None:
                seen.append(-1)

            def part(self, item: object, frame: int, of: int | None) -> None:
                seen.append(frame)

            def stop(self) -> None:
                seen.append(-2)

        how: dict[str, Any] = {"every": 30, "store": tmp_path / "store"}
        output = tmp_path / "out.json"
        summary = pixano_cli.segment_video(
            SAMPLES / "pan.mp4", output, mask_every=2, progress=Progress(), **how
        )
        assert summary.frames == 2
        assert (summary.total, summary.processed, summary.annotations) == (1, 1, 2)
        assert seen == [1, 1, 31, -1, -2]
        content = output.read_bytes()
        again = pixano_cli.segment_video([str(SAMPLES / "pan.mp4")], [output], mask_every=2, **how)
        assert (again.processed, again.cached) == (0, 1)
        assert output.read_bytes() == content
        exported = pixano_cli.export([tmp_path / "out.parquet"], store=tmp_path / "store")
        assert exported.frames == 2

    def test_what_is_wrong_is_raised(self, tmp_path: Path) -> None:
        import pixano_cli
        from pixano_cli.errors import UsageError

        calls: list[Callable[[], object]] = [
            lambda: pixano_cli.segment_video(tmp_path, tmp_path / "o.json"),
            lambda: pixano_cli.segment_video(SAMPLES / "pan.mp4", tmp_path / "o.txt"),
            lambda: pixano_cli.segment_video(SAMPLES / "pan.mp4", every=0),
            lambda: pixano_cli.segment_video(SAMPLES / "pan.mp4", prompts="a", boxes="b"),
        ]
        for call in calls:
            with pytest.raises(UsageError):
                call()
        assert os.listdir(tmp_path) == []  # noqa: PTH208
