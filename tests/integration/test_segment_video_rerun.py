"""Videos again: what is recorded is not asked for, whatever else the command changes."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from .clips import TWO, Square, write_clip
from .tool import Commands, Done, Log, check_store

MODELS = ("-m", "square-segmenter", "--detector", "square-detector")
SEGMENT = ("segment-video", "videos", *MODELS, "--json")
BOTH = ("-o", "out.json", "-o", "out.parquet")
FRAMES = 20
THREE = (*TWO, Square("blue", 70, 30, 0.5, 0.5))
"""What is blue has a score of 0.4, which is not enough by default."""


class Rerun:
    """A folder with a video that is recorded, and what commands make of it afterwards."""

    def __init__(self, command: Callable[..., Done], work: Path, log: Log) -> None:
        self.command = command
        self.work = work
        self.log = log
        self.store = work / ".pixano-annotate"
        self.clip = write_clip(work / "videos" / "a.mp4", FRAMES, THREE)
        self.first = command(*SEGMENT, *BOTH)
        assert self.first.counts == {"total": 1, "processed": 1, "cached": 0, "failed": 0}
        assert self.calls() == (FRAMES, FRAMES)
        self.outputs = self.contents()

    def contents(self) -> list[bytes]:
        return [(self.work / name).read_bytes() for name in ("out.json", "out.parquet")]

    def calls(self) -> tuple[int, int]:
        return self.log.count("detect"), self.log.count("segment")

    def again(self, *options: object, asked: tuple[int, int] = (0, 0), code: int = 0) -> Done:
        """Run the command again; `asked` says how often the two models must be."""
        before = self.calls()
        done = self.command(*SEGMENT, *options)
        assert done.code == code, done.err
        after = self.calls()
        assert (after[0] - before[0], after[1] - before[1]) == asked
        check_store(self.store)
        return done

    def document(self) -> dict[str, Any]:
        return orjson.loads((self.work / "out.json").read_bytes())

    def change(self, statement: str) -> None:
        with closing(sqlite3.connect(self.store / "store.sqlite3")) as connection, connection:
            connection.execute("PRAGMA foreign_keys = ON")
            assert connection.execute(statement).rowcount > 0


@pytest.fixture
def rerun(command: Callable[..., Done], work: Path, log: Log) -> Rerun:
    return Rerun(command, work, log)


def cached(done: Done, number: int = 1) -> bool:
    return done.counts == {"total": number, "processed": 0, "cached": number, "failed": 0}


def test_the_same_command_again(rerun: Rerun) -> None:
    assert cached(rerun.again(*BOTH))
    assert rerun.contents() == rerun.outputs
    assert cached(rerun.again(*BOTH, "--checksum", "--checkpoint-every", 3))
    assert cached(rerun.again("-o", "dry.json", "--concurrency", 5))
    assert (rerun.work / "dry.json").read_bytes() == rerun.outputs[0]


def test_a_dry_run_tells_and_does_nothing(rerun: Rerun) -> None:
    write_clip(rerun.work / "videos" / "b.mp4", FRAMES)
    done = rerun.again("-o", "new.json", "--dry-run")
    assert done.summary == {
        "task": "segment-video",
        "model": "square-segmenter",
        "provider": "local",
        "total": 2,
        "cached": 1,
        "pending": 1,
    }
    assert not (rerun.work / "new.json").exists()


def test_the_same_video_under_two_names_is_asked_once(rerun: Rerun) -> None:
    shutil.copyfile(rerun.clip, rerun.work / "videos" / "b.mp4")
    assert cached(rerun.again(*BOTH), 2)
    document = rerun.document()
    assert [video["name"] for video in document["videos"]] == ["a.mp4", "b.mp4"]
    assert len(document["images"]) == 2 * FRAMES
    rerun.again(*BOTH, "--overwrite", asked=(FRAMES, FRAMES))
    assert rerun.document() == document
    rerun.clip.rename(rerun.work / "videos" / "c.mp4")
    assert cached(rerun.again(*BOTH), 2)


def test_new_copies_in_one_run_are_asked_once(
    command: Callable[..., Done], work: Path, log: Log
) -> None:
    clip = write_clip(work / "videos" / "a.mp4", FRAMES)
    for name in ("b.mp4", "c.mp4"):
        shutil.copyfile(clip, clip.with_name(name))
    done = command(*SEGMENT, *BOTH)
    assert done.counts == {"total": 3, "processed": 1, "cached": 2, "failed": 0}
    assert log.count("detect") == log.count("segment") == FRAMES
    assert done.summary["frames"] == 3 * FRAMES


def test_overwriting_asks_again_and_finds_the_same(rerun: Rerun) -> None:
    done = rerun.again(*BOTH, "--overwrite", asked=(FRAMES, FRAMES))
    assert done.summary["processed"] == 1
    assert rerun.contents() == rerun.outputs


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (("--threshold", 0.8), (0, 0)),
        (("--classes", "red"), (0, 0)),
        (("--mask-every", 5), (0, 0)),
        (("--every", 2), (0, 0)),
        (("--end", 0.4), (0, 0)),
        (("--fps", 5), (0, 0)),
        # One more object in each frame.
        (("--threshold", 0.3), (0, FRAMES)),
    ],
    ids=str,
)
def test_what_is_recorded_serves_other_options(
    rerun: Rerun, options: tuple[object, ...], asked: tuple[int, int]
) -> None:
    done = rerun.again(*BOTH, *options, asked=asked)
    assert done.summary["processed"] == bool(sum(asked))
    changed = rerun.contents()
    assert changed != rerun.outputs
    assert cached(rerun.again(*BOTH, *options))
    assert rerun.contents() == changed
    assert cached(rerun.again(*BOTH))
    assert rerun.contents() == rerun.outputs
    fresh = rerun.again(*BOTH, *options, "--store", "fresh", asked=calls_of(options))
    assert fresh.summary["cached"] == 0
    assert rerun.contents() == changed


def calls_of(options: tuple[object, ...]) -> tuple[int, int]:
    """Return how often the models are asked with options if nothing is recorded."""
    return {
        "--mask-every": (FRAMES, FRAMES // 5),
        "--every": (FRAMES // 2, FRAMES // 2),
        "--end": (10, 10),
        "--fps": (4, 4),
    }.get(str(options[0]), (FRAMES, FRAMES))


def test_another_format(rerun: Rerun) -> None:
    for format_name, output in (("youtube-vis", "vis.json"), ("davis", "davis")):
        assert cached(rerun.again("-o", output, "--format", format_name))
        assert (rerun.work / output).exists()


def test_more_frames_reuse_those_that_are_recorded(rerun: Rerun) -> None:
    rerun.again("-o", "few.json", "--every", 4, "--store", "other", asked=(5, 5))
    done = rerun.again(*BOTH, "--store", "other", asked=(15, 15))
    assert done.summary["processed"] == 1
    assert rerun.contents() == rerun.outputs


def test_a_changed_video_is_noticed(rerun: Rerun) -> None:
    write_clip(rerun.clip, FRAMES, TWO[:1])
    done = rerun.again(*BOTH, asked=(FRAMES, FRAMES))
    assert done.counts == {"total": 1, "processed": 1, "cached": 0, "failed": 0}
    assert done.summary["annotations"] == FRAMES


def test_a_changed_frame_of_a_folder_is_noticed(
    command: Callable[..., Done], work: Path, log: Log
) -> None:
    from PIL import Image

    from .clips import pictures

    folder = work / "frames"
    folder.mkdir()
    for index, picture in enumerate(pictures(6)):
        Image.fromarray(picture).save(folder / f"{index}.png")
    segment = ("segment-video", "frames", *MODELS, "-o", "out.json", "--json")
    assert command(*segment).summary["processed"] == 1
    assert command(*segment).summary["cached"] == 1
    assert log.count("detect") == 6
    first = (work / "out.json").read_bytes()
    Image.new("RGB", (160, 96)).save(folder / "3.png")
    done = command(*segment)
    assert done.summary["processed"] == 1
    assert log.count("detect") == 12
    assert (work / "out.json").read_bytes() != first


def test_two_processes_on_the_same_videos_at_once(commands: Commands, log: Log, work: Path) -> None:
    for index in range(4):
        write_clip(work / "videos" / f"{index}.mp4", FRAMES, (Square("red", 10 + index, 20, 2),))
    commands.environment["COUNTING_DELAY"] = "0.01"
    assert commands.run(*SEGMENT, *BOTH, "--store", "alone").code == 0
    expected = [(work / name).read_bytes() for name in ("out.json", "out.parquet")]
    log.clear()
    started = [
        commands.start(*SEGMENT, "-o", f"{name}.json", "-o", f"{name}.parquet", "--store", "both")
        for name in ("a", "b", "c")
    ]
    for each in started:
        done = each.end()
        assert done.code == 0, done.err
        assert done.summary["failed"] == 0
    for name in ("a", "b", "c"):
        contents = [(work / f"{name}.{suffix}").read_bytes() for suffix in ("json", "parquet")]
        assert contents == expected
    check_store(work / "both")
    # Two of them begin from either end: no two thirds of the work is done three times.
    assert log.count("detect") < 3 * 4 * FRAMES
    done = commands.run(*SEGMENT, *BOTH, "--store", "both")
    assert cached(done, 4)


def test_of_removed_answers_only_these_are_asked_for_again(rerun: Rerun) -> None:
    done = rerun.command(
        "store", "delete", "--model-id", "square-segmenter", "--meta", "frame_index>=15", "--yes"
    )
    assert done.code == 0, done.err
    assert rerun.command("export", "-o", "exported.json").code == 1
    done = rerun.again(*BOTH, asked=(0, 5))
    assert done.summary["processed"] == 1
    assert rerun.contents() == rerun.outputs
    # What was found is not needed any more, as long as nothing else is linked from it.
    rerun.change("DELETE FROM inferences WHERE model_id = 'square-detector'")
    assert cached(rerun.again(*BOTH))
    rerun.again(*BOTH, "--threshold", 0.8, asked=(FRAMES, 0))


def test_a_mask_that_was_removed_beside_others_of_its_frame_is_asked_for_again(
    rerun: Rerun,
) -> None:
    """A second run asked for one more mask a frame; its answers are removed."""
    lower = ("--threshold", 0.3)
    rerun.again(*BOTH, *lower, asked=(0, FRAMES))
    outputs = rerun.contents()
    rerun.change(
        "DELETE FROM inferences WHERE id IN (SELECT max(inference) FROM frames JOIN inferences"
        " ON inference = inferences.id WHERE model_id = 'square-segmenter' GROUP BY frame_index)"
    )
    rerun.again(*BOTH, *lower, asked=(0, FRAMES))
    assert rerun.contents() == outputs
    assert cached(rerun.again(*BOTH))
    assert rerun.contents() == rerun.outputs


def test_a_mask_in_whose_place_there_is_another_is_asked_for_after_it_was_missed(
    rerun: Rerun,
) -> None:
    """Boxes that are interpolated are others than those that were found, and so are their masks."""
    rerun.command(*SEGMENT, *BOTH, "--detect-every", 3)
    outputs = rerun.contents()
    masks = "SELECT min(inference) FROM frames JOIN inferences ON inference = inferences.id"
    rerun.change(
        f"DELETE FROM inferences WHERE id IN ({masks} WHERE model_id = 'square-segmenter'"
        " AND frame_index = 1)"
    )
    done = rerun.again(*BOTH, code=1)
    assert done.err.endswith(": a mask was removed: run the same command again\n")
    rerun.again(*BOTH, asked=(0, 1))
    assert rerun.contents() == rerun.outputs
    assert cached(rerun.again(*BOTH, "--detect-every", 3))
    assert rerun.contents() == outputs


def test_overwriting_copies_with_other_prompts(rerun: Rerun) -> None:
    """The answers for one name must not be taken away for the other's sake."""
    shutil.copyfile(rerun.clip, rerun.clip.with_name("b.mp4"))
    prompts = {
        f"{name}.mp4": [{"object_id": 1, "frame_index": 0, "box": box, "label": name}]
        for name, box in (("a", [4, 8, 24, 28]), ("b", [130, 60, 150, 80]))
    }
    (rerun.work / "prompts.json").write_bytes(orjson.dumps(prompts))
    options = (*BOTH, "--prompts", "prompts.json")
    done = rerun.command(*SEGMENT, *options)
    assert done.summary["annotations"] == 2 * FRAMES, done.err
    outputs = rerun.contents()
    done = rerun.command(*SEGMENT, *options, "--overwrite")
    assert done.code == 0, done.err
    assert done.summary["failed"] == 0
    assert rerun.contents() == outputs
