"""Videos and their store: a full disk, PostgreSQL, and what verifies, exports and expires it."""

import os
import shutil
import signal
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from typing import Any

import orjson
import pytest
from PIL import Image

from .clips import Square, pictures, write_clip
from .tool import Commands, Done, Log, check_store, query

Command = Callable[..., Done]

MODELS = ("-m", "square-segmenter", "--detector", "square-detector")
SEGMENT = ("segment-video", "videos", *MODELS, "-o", "out.json", "-o", "out.parquet")
FRAMES = 30
SQUARES = (
    Square("red", 4, 8, 2.0, 0.2),
    Square("green", 130, 60, -1.6, -0.3, first=6),
    Square("blue", 70, 30, 0.5, 0.5, last=20),
)


def outputs(work: Path) -> list[bytes]:
    return [(work / name).read_bytes() for name in ("out.json", "out.parquet")]


@pytest.fixture
def clip(work: Path) -> Path:
    return write_clip(work / "videos" / "a.mp4", FRAMES, SQUARES)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs: run as root outside a container")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path, but: int) -> Path:
    """Fill a disk but for some bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - but)
    return ballast


def test_the_disk_is_full_inside_a_video(
    command: Command, work: Path, log: Log, small_disk: Path
) -> None:
    # A thousand frames are more than there is room for.
    write_clip(work / "videos" / "a.mp4", 900, SQUARES[:1])
    (work / "out.json").write_bytes(b"earlier")
    segment = (*SEGMENT, "--store", small_disk / "store")
    ballast = fill(small_disk, but=1_500_000)
    done = command(*segment)
    assert done.code == 1, done.err
    assert "disk is full" in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
    assert (work / "out.json").read_bytes() == b"earlier"
    kept = query(small_disk / "store", "SELECT count(*) FROM frames")[0][0]
    assert 0 < kept < 1800
    check_store(small_disk / "store")
    ballast.unlink()
    done = command(*segment, "--json")
    assert done.code == 0, done.err
    assert done.summary["frames"] == 900
    assert len(log) <= 1800 + 30
    check_store(small_disk / "store")
    assert command(*segment, "--json").summary["cached"] == 1


def test_the_disk_is_full_while_outputs_are_written(
    command: Command, work: Path, clip: Path, small_disk: Path
) -> None:
    ballast = fill(small_disk, but=4_096)
    for option, names in (
        (("-o", small_disk / "out.json"), "out.json"),
        (("-o", small_disk / "davis", "--format", "davis"), "davis"),
        (("-o", "out.json", "--preview", small_disk / "shown"), "a.mp4"),
    ):
        done = command("segment-video", "videos", *MODELS, *option)
        assert done.code == 1, done.err
        assert "disk is full" in done.err.splitlines()[-1], done.err
        assert names in done.err.splitlines()[-1]
        left = {path.name for path in small_disk.rglob("*") if path.is_file()}
        assert left == {"ballast"}
    ballast.unlink()
    done = command("segment-video", "videos", *MODELS, "-o", small_disk / "out.json", "--json")
    assert done.summary["cached"] == 1


def test_killed_with_a_store_in_postgresql(
    commands: Commands,
    command: Command,
    work: Path,
    log: Log,
    clip: Path,
    postgresql_server: Any,
) -> None:
    url = postgresql_server.new_database()
    assert command(*SEGMENT, "--store", "store", "-q").code == 0
    expected = outputs(work)
    calls = len(log)
    log.clear()
    segment = (*SEGMENT, "--store", url, "-q", "--checkpoint-every", 4)
    commands.environment["COUNTING_DELAY"] = "0.01"
    for _ in range(2):
        started = commands.start(*segment)
        goal = len(log) + 12
        assert started.until(lambda goal=goal: len(log) >= goal)  # type: ignore[misc]
        assert started.end(signal.SIGKILL).code == -signal.SIGKILL
    done = command(*segment, "--json")
    assert done.counts == {"total": 1, "processed": 1, "cached": 0, "failed": 0}
    assert outputs(work) == expected
    assert calls <= len(log) <= calls + 2 * 2 * 4
    done = command(*segment, "--json")
    assert done.summary["cached"] == 1
    assert command(*segment, "--overwrite").code == 0
    assert outputs(work) == expected
    frames = "SELECT frame_index, file_name, count(*) FROM frames GROUP BY 1, 2 ORDER BY 1"
    name = url.rpartition("/")[2]
    assert postgresql_server.execute(frames, name) == query(work / "store", frames)
    assert command("store", "verify", "--deep", "--store", url).code == 0


def test_a_record_of_videos_is_sound(command: Command, work: Path, clip: Path) -> None:
    assert command(*SEGMENT).code == 0
    done = command("store", "verify", "--deep", "--json")
    assert done.code == 0, done.err
    assert done.summary["is_sound"]
    listed = orjson.loads(command("store", "list", "--model-id", "square-segmenter", "--json").out)
    assert listed[0]["data_hash"]
    names = {
        datum["value"] for each in listed for datum in each["metadata"] if datum["key"] == "video"
    }
    assert names == {"a.mp4"}


def test_exports_of_what_was_recorded(command: Command, work: Path, log: Log, clip: Path) -> None:
    assert command(*SEGMENT, "--threshold", 0.3).code == 0
    expected = outputs(work)
    calls = len(log)
    clip.unlink()
    (work / "out.json").unlink()
    assert command("export", "-o", "out.json", "-o", "out.parquet").code == 0
    assert outputs(work) == expected
    for name in ("youtube-vis", "davis"):
        output = "vis.json" if name == "youtube-vis" else "davis"
        done = command("export", "-o", output, "--format", name, "--json")
        assert done.code == 0, done.err
        assert done.summary["frames"] == FRAMES

    def labels(*options: object) -> dict[str, int]:
        done = command("export", "-o", "some.json", *options)
        assert done.code == 0, done.err
        document = orjson.loads((work / "some.json").read_bytes())
        assert len(document["images"]) == FRAMES
        names = {each["id"]: each["name"] for each in document["categories"]}
        found: dict[str, int] = {}
        for each in document["annotations"]:
            label = names[each["category_id"]]
            found[label] = found.get(label, 0) + 1
        return found

    assert labels() == {"red": FRAMES, "green": FRAMES - 6, "blue": 21}
    assert labels("--threshold", 0.5) == {"red": FRAMES, "green": FRAMES - 6}
    assert labels("--threshold", 0.8) == {"red": FRAMES}
    assert labels("--classes", "blue,red") == {"red": FRAMES, "blue": 21}
    assert labels("--classes", "blue", "--threshold", 0.5) == {}
    assert labels("--task", "segment-video") == labels()
    (work / "set.json").write_text('[{"id": 7, "name": "green"}]')
    assert labels("--categories", "set.json") == {"green": FRAMES - 6}
    for options, says in (
        (("--classes", "violet"), "--classes: 'violet' is not in the label set of this run"),
        (("--classes", "red", "--categories", "set.json"), "'red' is not in set.json"),
        (("--threshold", 0.2), "--threshold 0.2: this run followed what has a score from 0.3 up"),
        (("--task", "detect"), "no detect run is recorded"),
    ):
        done = command("export", "-o", "some.json", *options)
        assert done.code == 2
        assert says in done.line
    assert len(log) == calls


def test_an_archive_has_a_video_once(command: Command, work: Path, clip: Path) -> None:
    folder = work / "videos" / "seq"
    folder.mkdir()
    for index, picture in enumerate(pictures(3, SQUARES)):
        Image.fromarray(picture).save(folder / f"{index:03}.png")
    gone = write_clip(work / "videos" / "gone.mp4", 4, SQUARES)
    assert command(*SEGMENT).code == 0
    gone.unlink()
    done = command("store", "export", "-o", "all.zip")
    assert done.code == 0, done.err
    with zipfile.ZipFile(work / "all.zip") as archive:
        assert archive.testzip() is None
        files = {name for name in archive.namelist() if name.startswith("inputs/")}
        assert files == {"inputs/a.mp4", *(f"inputs/seq/{each:03}.png" for each in range(3))}
        assert archive.read("inputs/a.mp4") == clip.read_bytes()
        for each in range(3):
            name = f"seq/{each:03}.png"
            assert archive.read(f"inputs/{name}") == (work / "videos" / name).read_bytes()
        lines = [orjson.loads(line) for line in archive.read("annotations.jsonl").splitlines()]
    found = [(each["path"], each["frame_index"], "missing" in each) for each in lines]
    assert sorted(found) == [
        *(("inputs/a.mp4", index, False) for index in range(FRAMES)),
        *(("inputs/gone.mp4", index, True) for index in range(4)),
        *((f"inputs/seq/{index:03}.png", index, False) for index in range(3)),
    ]
    times = {each["frame_index"]: each["timestamp_s"] for each in lines if "a.mp4" in each["path"]}
    assert times == pytest.approx({index: index / 25 for index in range(FRAMES)})


def test_answers_that_expire_are_asked_for_again(
    command: Command, work: Path, log: Log, clip: Path
) -> None:
    assert command(*SEGMENT).code == 0
    expected = outputs(work)
    calls = log.count("segment")
    assert (
        command(
            *("store", "retention", "set", "--model-id", "square-segmenter", "--records", "1h"),
            "--hard",
        ).code
        == 0
    )
    with closing(connect(work / ".pixano-annotate" / "store.sqlite3")) as connection, connection:
        connection.execute(
            "UPDATE inferences SET created_at = created_at - 7200000000 WHERE id IN"
            " (SELECT inference FROM frames WHERE frame_index % 3 = 0)"
            " AND model_id = 'square-segmenter'"
        )
    assert command("store", "verify", "--repair").code == 0
    run = command("store", "retention", "run", "--model-id", "square-segmenter", "--json")
    assert run.summary["deleted_record_count"] == FRAMES / 3
    done = command(*SEGMENT, "--json")
    assert done.counts == {"total": 1, "processed": 1, "cached": 0, "failed": 0}
    assert log.count("segment") == calls + FRAMES / 3
    assert log.count("detect") == FRAMES
    assert outputs(work) == expected
