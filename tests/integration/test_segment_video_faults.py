"""Strange and bad videos among good ones, and what else can go wrong: told of, and nothing lost."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import orjson
import pytest
from PIL import Image

from .clips import SIZE, TWO, Square, draw, pictures, write_clip
from .tool import Done, Log, check_store

Command = Callable[..., Done]

MODELS = ("-m", "square-segmenter", "--detector", "square-detector")
SEGMENT = ("segment-video", "videos", *MODELS, "-o", "out.json", "--json")
FRAMES = 12


def write_sound(path: Path) -> None:
    """Write a file with a stream of sound only."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), "fltp", "mono")
        frame.sample_rate = 16_000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def write_no_frames(path: Path) -> None:
    """Write a whole file that announces a video stream and has not one frame in it."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        output.start_encoding()


def put_good_videos(folder: Path) -> dict[str, int]:
    """Put strange videos into a folder; return how many frames each has."""
    one = (Square("red", 20, 20, 1.0),)
    times = [0, 1, 2, 5, 6, 10, 11, 12, 20, 21, 22, 30]
    write_clip(folder / "vfr.mp4", FRAMES, times=times)
    write_clip(folder / "vfr.mkv", FRAMES, times=times)
    turn: Any = lambda stream: stream.set_display_rotation(90)  # noqa: E731
    write_clip(folder / "turned.mp4", FRAMES, prepare=turn)
    b_frames = {"preset": "medium", "bf": "3", "crf": "4"}
    write_clip(folder / "b-frames.mp4", FRAMES, options=b_frames)
    write_clip(folder / "edited.mp4", FRAMES, shift=-3)
    write_clip(folder / "odd.avi", FRAMES, one, (101, 77), codec="mjpeg", pix_fmt="yuvj420p")
    write_clip(folder / "one.webm", 1, codec="libvpx-vp9")
    write_clip(folder / "large.mp4", 3, one, (3840, 2160))
    write_clip(folder / "wrong.mp4", FRAMES).rename(folder / "wrong.mov")
    shutil.copyfile(folder / "vfr.mkv", folder / "matroska.mp4")
    frames = [Image.fromarray(picture) for picture in pictures(4)]
    frames[0].save(
        folder / "moving.gif", save_all=True, append_images=frames[1:], duration=[40, 80, 120, 40]
    )
    (folder / "sequence").mkdir()
    for index, picture in enumerate(pictures(11)):
        suffix = "png" if index % 2 else "jpg"
        Image.fromarray(picture).save(folder / "sequence" / f"shot {index}.{suffix}", quality=95)
    names = ("vfr.mp4", "vfr.mkv", "turned.mp4", "b-frames.mp4", "odd.avi", "wrong.mov")
    return dict.fromkeys((*names, "matroska.mp4"), FRAMES) | {
        "edited.mp4": FRAMES - 3,
        "one.webm": 1,
        "large.mp4": 3,
        "moving.gif": 4,
        "sequence": 11,
    }


def put_bad_videos(folder: Path) -> dict[str, str]:
    """Put bad videos into a folder; return a word of what is said of each."""
    whole = write_clip(folder / "half.mp4", 60).read_bytes()
    (folder / "half.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.avi").write_text("not a video at all\n")
    (folder / "picture.mp4").write_bytes(b"")
    Image.fromarray(draw(TWO, 0)).save(folder / "picture.mp4", "PNG")
    write_sound(folder / "sound.mp4")
    write_no_frames(folder / "nothing.avi")
    cut = write_clip(folder / "cut.mkv", 60).read_bytes()
    (folder / "cut.mkv").write_bytes(cut[: len(cut) * 2 // 3])
    broken = bytearray(write_clip(folder / "first.avi", 12, codec="mpeg4").read_bytes())
    place = broken.index(b"00dc", broken.index(b"movi")) + 8
    broken[place : place + 400] = bytes(400)
    (folder / "first.avi").write_bytes(broken)
    (folder / "dangling.mp4").symlink_to("nowhere.mp4")
    os.mkfifo(folder / "pipe.mp4")
    return {
        "half.mp4": "",
        "empty.mp4": "empty",
        "text.avi": "",
        "picture.mp4": "",
        "sound.mp4": "video",
        "nothing.avi": "frame",
        "cut.mkv": "after",
        "first.avi": "",
        "dangling.mp4": "",
        "pipe.mp4": "pipe",
    }


def failures(path: Path) -> dict[str, dict[str, str]]:
    return {each["path"]: each for each in map(orjson.loads, path.read_bytes().splitlines())}


def shown(path: Path) -> list[float]:
    """Return when the frames of a video are shown, by ffprobe, else by the container alone."""
    if program := shutil.which("ffprobe"):
        command = [program, "-v", "quiet", "-select_streams", "v:0", "-show_frames"]
        command += ["-show_entries", "frame=pts_time", "-of", "json", str(path)]
        told = subprocess.run(command, capture_output=True, check=True).stdout
        return [float(frame["pts_time"]) for frame in json.loads(told)["frames"]]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [each for each in container.demux(stream) if each.size and not each.is_discard]
        return sorted(float(each.pts * stream.time_base) for each in packets)


def test_strange_videos_are_read_and_bad_ones_told_of(
    command: Command, work: Path, log: Log
) -> None:
    folder = work / "videos"
    good, bad = put_good_videos(folder), put_bad_videos(folder)
    done = command(*SEGMENT, "-o", "out.parquet")
    assert done.code == 3, done.err
    assert "Traceback" not in done.err
    listed = failures(work / "out.json.failed.jsonl")
    for row in listed.values():
        print(row)
    assert set(listed) == set(bad)
    assert list(listed) == sorted(bad)
    for name, row in listed.items():
        assert row["stage"] in ("read", "decode")
        assert row["message"].isprintable()
        assert bad[name] in row["message"]
    assert done.counts == {
        "total": len(good) + len(bad),
        "processed": len(good) - 1,
        "cached": 1,
        "failed": len(bad),
    }
    document = orjson.loads((work / "out.json").read_bytes())
    names = {video["id"]: video["name"] for video in document["videos"]}
    assert list(names.values()) == sorted(good)
    frames: dict[str, list[dict[str, Any]]] = {name: [] for name in good}
    for image in document["images"]:
        frames[names[image["video_id"]]].append(image)
    objects = {image["id"]: 0 for image in document["images"]}
    tracks: dict[str, set[int]] = {name: set() for name in good}
    for annotation in document["annotations"]:
        objects[annotation["image_id"]] += 1
        tracks[names[annotation["video_id"]]].add(annotation["track_id"])
    for name, own in frames.items():
        assert [image["frame_index"] for image in own] == list(range(good[name])), name
        times = [image["timestamp_s"] for image in own]
        assert all(before < after for before, after in pairwise(times)), name
        if name != "sequence":
            assert times == pytest.approx(shown(folder / name), abs=1e-4), name
        assert {objects[image["id"]] for image in own} == {1 if name in ONE else 2}, name
        assert len(tracks[name]) == (1 if name in ONE else 2), name
    assert [image["timestamp_s"] for image in frames["vfr.mp4"]][3] == pytest.approx(0.2)
    assert [image["timestamp_s"] for image in frames["moving.gif"]] == pytest.approx(
        [0, 0.04, 0.12, 0.24]
    )
    size = {name: (own[0]["width"], own[0]["height"]) for name, own in frames.items()}
    assert size["turned.mp4"] == SIZE[::-1]
    assert size["odd.avi"] == (101, 77)
    assert size["large.mp4"] == (3840, 2160)
    assert [image["file_name"] for image in frames["sequence"]][:3] == [
        "sequence/shot 0.jpg",
        "sequence/shot 1.png",
        "sequence/shot 2.jpg",
    ]
    assert frames["sequence"][10]["file_name"] == "sequence/shot 10.jpg"

    calls = len(log)
    again = command(*SEGMENT, "--max-failures", len(bad))
    assert again.code == 0
    assert again.counts == {
        "total": len(good) + len(bad),
        "processed": 0,
        "cached": len(good),
        "failed": len(bad),
    }
    assert len(log) == calls
    assert failures(work / "out.json.failed.jsonl") == listed
    write_clip(folder / "empty.mp4", 5, TWO)
    mended = command(*SEGMENT)
    assert (mended.code, mended.summary["processed"]) == (3, 1)
    assert len(log) == calls + 10
    # What the message about a video that was cut off advises.
    (end,) = re.findall(r"--end ([0-9.]+)", listed["cut.mkv"]["message"])
    cut = command("segment-video", folder / "cut.mkv", *MODELS, "-o", "cut.json", "--end", end)
    assert cut.code == 0, cut.err
    check_store(work / ".pixano-annotate")


ONE = ("odd.avi", "large.mp4")


def test_a_folder_without_videos(command: Command, work: Path) -> None:
    (work / "videos").mkdir()
    (work / "videos" / "notes.txt").write_text("nothing here\n")
    done = command(*SEGMENT)
    assert done.code == 2
    assert "no videos in 'videos'" in done.line
    assert not (work / "out.json").exists()


def test_names_of_any_kind(command: Command, work: Path) -> None:
    names = [
        "a b.mp4",
        "ünï-cödé 影片.mp4",
        "50%41#?.mp4",
        "quote'\".mp4",
        "-o.mp4",
        "line\nbreak.mp4",
        "deep/er/still.mp4",
        os.fsdecode(b"caf\xe9.mp4"),
    ]
    one = write_clip(work / "clip.mp4", 4, TWO[:1]).read_bytes()
    for name in names:
        path = work / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(one)
    (work / "videos" / "broken\n\x1b[31m.mp4").write_bytes(b"")
    done = command(*SEGMENT, "-o", "out.parquet", "--preview", "shown")
    assert done.code == 3, done.err
    assert done.counts == {"total": 9, "processed": 1, "cached": 7, "failed": 1}
    assert "\x1b" not in done.err
    document = orjson.loads((work / "out.json").read_bytes())
    found = {video["name"] for video in document["videos"]}
    assert found == {*names[:-1], "caf\\udce9.mp4"} or len(found) == len(names)
    assert len(document["images"]) == 4 * len(names)
    assert len(list((work / "shown").rglob("*.mp4"))) == len(names)
    for options in (
        ("--format", "youtube-vis", "-o", "vis.json"),
        ("--format", "davis", "-o", "d"),
    ):
        assert command("export", *options).code == 0


def test_a_video_in_two_sources(command: Command, work: Path, log: Log) -> None:
    clip = write_clip(work / "videos" / "a.mp4", FRAMES)
    write_clip(work / "more" / "a.mp4", FRAMES, TWO[:1])
    for sources in (("videos", clip), ("videos", "videos/a.mp4"), ("videos", "videos")):
        done = command("segment-video", *sources, *MODELS, "-o", "out.json", "--json")
        assert done.code == 0, done.err
        names = [v["name"] for v in orjson.loads((work / "out.json").read_bytes())["videos"]]
        assert len(set(names)) == len(names) == done.summary["total"]
    assert log.count("detect") == FRAMES
    done = command("segment-video", "videos", "more", *MODELS, "-o", "out.json", "--json")
    document = orjson.loads((work / "out.json").read_bytes())
    assert [each["name"] for each in document["videos"]] == ["more/a.mp4", "videos/a.mp4"]
    assert done.summary["processed"] == 1


def test_what_may_not_be_read_fails_alone(command: Command, work: Path) -> None:
    for name in ("a", "b"):
        write_clip(work / "videos" / f"{name}.mp4", 4)
    (work / "videos" / "a.mp4").chmod(0)
    if os.access(work / "videos" / "a.mp4", os.R_OK):
        pytest.skip("root may read everything: run it as another user")
    done = command(*SEGMENT)
    assert done.counts == {"total": 2, "processed": 1, "cached": 0, "failed": 1}
    assert failures(work / "out.json.failed.jsonl")["a.mp4"]["stage"] == "read"


def test_frames_with_200_objects(command: Command, work: Path) -> None:
    squares = [
        Square("red", 6 + 24 * (at % 20), 6 + 24 * (at // 20), 0.3, side=14) for at in range(200)
    ]
    write_clip(work / "videos" / "crowd.mp4", 8, squares, (500, 260))
    done = command(*SEGMENT)
    assert done.code == 0, done.err
    assert done.summary["annotations"] == 8 * 200
    document = orjson.loads((work / "out.json").read_bytes())
    assert {each["track_id"] for each in document["annotations"]} == set(range(1, 201))
    place = {each["track_id"]: each["bbox"][:2] for each in document["annotations"][:200]}
    for each in document["annotations"]:
        assert abs(each["bbox"][0] - place[each["track_id"]][0]) <= 4


def test_frames_of_a_folder_that_cannot_be_read(command: Command, work: Path, log: Log) -> None:
    folder = work / "videos" / "sequence"
    folder.mkdir(parents=True)
    for index, picture in enumerate(pictures(6)):
        Image.fromarray(picture).save(folder / f"{index}.png")
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:300])
    done = command(*SEGMENT)
    assert done.code == 3
    row = failures(work / "out.json.failed.jsonl")["sequence"]
    assert "3.png" in row["message"], row
    calls = log.count()
    Image.fromarray(draw(TWO, 3)).save(folder / "3.png")
    done = command(*SEGMENT)
    assert (done.code, done.summary["frames"]) == (0, 6)
    # The folder is another one by now.
    assert log.count() == calls + 6


def test_a_model_that_fails_in_one_frame(
    command: Command, work: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was answered before is kept, and the next run goes on from there."""
    write_clip(work / "videos" / "a.mp4", FRAMES)
    write_clip(work / "videos" / "b.mp4", FRAMES, TWO[:1])
    monkeypatch.setenv("COUNTING_FAILS_AT", "8")
    done = command(*SEGMENT)
    assert done.code == 3
    assert done.counts == {"total": 2, "processed": 1, "cached": 0, "failed": 1}
    row = failures(work / "out.json.failed.jsonl")["a.mp4"]
    assert (row["stage"], row["error_class"]) == ("infer", "InferenceError")
    assert "out of luck" in row["message"]
    monkeypatch.delenv("COUNTING_FAILS_AT")
    done = command(*SEGMENT)
    assert done.counts == {"total": 2, "processed": 1, "cached": 1, "failed": 0}
    times = log.times("detect")
    assert len(times) == 2 * FRAMES
    assert sorted(times.values())[-2:] == [1, 2]


@pytest.mark.parametrize("answer", range(1, 12))
def test_no_answer_of_a_model_ends_the_batch(command: Command, work: Path, answer: int) -> None:
    """See `HostileDetector`, which answers by the width of the image."""
    still = [np.full((80, 100 + answer, 3), value, np.uint8) for value in (10, 60, 110)]
    how = {"codec": "mjpeg", "pix_fmt": "yuvj420p"}
    write_clip(work / "videos" / "a.avi", size=(100 + answer, 80), frames=still, **how)
    fine = [picture[:, :100] for picture in still]
    write_clip(work / "videos" / "b.avi", size=(100, 80), frames=fine, **how)
    models = ("-m", "square-segmenter", "--detector", "hostile-detector")
    done = command("segment-video", "videos", *models, "-o", "out.json", "--json")
    assert done.code == 3, done.err
    assert done.counts == {"total": 2, "processed": 1, "cached": 0, "failed": 1}
    row = failures(work / "out.json.failed.jsonl")["a.avi"]
    assert row["stage"] == "infer"
    assert len(row["message"]) < 1000
    assert row["message"].isprintable()
    assert "Traceback" not in done.err
