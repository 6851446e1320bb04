"""SIGKILL inside a video: the next run goes on there, and what it writes is the same."""

import hashlib
import random
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from time import sleep

import pytest

from pixano_cli.media.videos import open_video

from .clips import Square, write_clip
from .tool import SAMPLES, Commands, Log, check_store, query

OUTPUTS = ("out.json", "out.parquet")
MODELS = ("-m", "square-segmenter", "--detector", "square-detector")
KINDS = {"detect": "square-detector", "segment": "square-segmenter"}
SQUARES = (
    Square("red", 2, 8, 1.1, 0.2),
    Square("green", 130, 60, -1.6, -0.3, last=60),
    Square("blue", 70, 40, 0.4, 0.1, side=16, first=30),
)
FRAMES = 96


def digests(path: Path) -> dict[str, int]:
    """Return the frames of a video by the digest of their pixels."""
    with open_video(path) as video:
        frames = {
            hashlib.sha256(frame.image().tobytes()).hexdigest(): frame.index
            for frame in video.frames()
        }
    assert sorted(frames.values()) == list(range(len(frames)))
    return frames


class Killer:
    """Runs a command on one video, kills it at a moment, and counts what is lost at the models."""

    def __init__(self, commands: Commands, log: Log, clip: Path, arguments: tuple[object, ...]):
        self.commands = commands
        self.log = log
        self.frames = digests(clip)
        self.arguments = arguments
        self.store = commands.folder / "store"
        self.kills = 0
        self.lost: list[int] = []

    def kill(self, is_now: Callable[[], bool], number: int = signal.SIGKILL) -> None:
        started = self.commands.start(*self.arguments)
        done = started.end(number) if started.until(is_now) else started.end()
        assert done.code in (0, -number, 128 + number), done.err
        self.kills += done.code != 0
        self.lost.append(len(self.lost_by(started.process.pid)))

    def lost_by(self, process: int) -> set[int]:
        """Return the frames that a process asked a model about, without the answer in the store."""
        recorded = self.recorded()
        return {
            self.frames[digest]
            for kind, model in KINDS.items()
            for asked_by, digest in self.log.lines(kind)
            if asked_by == process and (model, self.frames[digest]) not in recorded
        }

    def recorded(self) -> set[tuple[str, int]]:
        if not self.store.exists() or not query(self.store, "SELECT 1 FROM sqlite_master"):
            return set()
        assert query(self.store, "PRAGMA integrity_check") == [("ok",)]
        statement = (
            "SELECT model_id, frame_index FROM frames JOIN inferences ON inference = inferences.id"
        )
        return set(query(self.store, statement))

    def more_calls(self, number: int) -> Callable[[], bool]:
        end = len(self.log) + number
        return lambda: len(self.log) >= end


@pytest.mark.parametrize(
    ("checkpoint_every", "options"),
    [
        (4, ("--detect-every", 3)),
        (1, ("--mask-every", 2)),
        pytest.param(30, (), marks=pytest.mark.long),
        pytest.param(4, ("--mask-every", 3), marks=pytest.mark.long),
        pytest.param(1, (), marks=pytest.mark.long),
    ],
)
def test_killed_at_10_moments_a_video_ends_as_if_it_had_not_been(
    commands: Commands, log: Log, work: Path, checkpoint_every: int, options: tuple[object, ...]
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    clip = write_clip(work / "clip.mp4", FRAMES, SQUARES)
    segment = ("segment-video", clip, *MODELS, *options, "--threshold", 0.3, "-q")
    written = [word for output in OUTPUTS for word in ("-o", output)]
    assert commands.run(*segment, *written, "--store", "reference").code == 0
    expected = [(work / output).read_bytes() for output in OUTPUTS]
    once, calls = {kind: log.times(kind) for kind in KINDS}, len(log)
    assert all(set(times.values()) == {1} for times in once.values())
    for output in OUTPUTS:
        (work / output).unlink()
    log.clear()

    commands.environment["COUNTING_DELAY"] = "0.005"
    arguments = (*segment, *written, "--store", "store", "--checkpoint-every", checkpoint_every)
    killer = Killer(commands, log, clip, arguments)
    while killer.kills < 10:
        # In all they get to about nine tenths of the video, however much each one loses.
        left = calls * 0.9 - sum(len(log.times(kind)) for kind in KINDS)
        killer.kill(killer.more_calls(choose.randint(1, max(int(left / (10 - killer.kills)), 2))))
        assert killer.lost[-1] <= checkpoint_every
        assert not any((work / output).exists() for output in OUTPUTS) or killer.kills < 10
    print(f"frames asked about in vain: {killer.lost}")

    assert commands.run(*arguments).code == 0
    assert [(work / output).read_bytes() for output in OUTPUTS] == expected
    check_store(killer.store)
    assert {kind: set(log.times(kind)) for kind in KINDS} == {
        kind: set(times) for kind, times in once.items()
    }
    again = {
        killer.frames[digest] for kind in KINDS for digest, n in log.times(kind).items() if n > 1
    }
    assert len(again) <= sum(killer.lost)


@pytest.mark.long
def test_killed_at_10_moments_with_the_default_models(commands: Commands, work: Path) -> None:
    """The embedded models, over the sample video."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    segment = ("segment-video", SAMPLES / "pan.mp4", "--mask-every", 6, "-q", "-o", *OUTPUTS[:1])
    segment += ("-o", OUTPUTS[1])
    assert commands.run(*segment, "--store", "reference").code == 0
    expected = [(work / output).read_bytes() for output in OUTPUTS]
    frames = "SELECT count(*) FROM frames"
    total = query(work / "reference", frames)[0][0]
    for output in OUTPUTS:
        (work / output).unlink()

    def recorded() -> int:
        try:
            return int(query(work / "store", frames)[0][0])
        except sqlite3.OperationalError:
            return 0

    for kill in range(10):
        goal = recorded() + choose.randint(0, max((total - recorded()) // (10 - kill) - 1, 0))
        started = commands.start(*segment, "--store", "store", "--checkpoint-every", 4)
        assert started.until(lambda goal=goal: recorded() >= goal)  # type: ignore[misc]
        sleep(choose.uniform(0, 0.3))
        assert started.end(signal.SIGKILL).code == -signal.SIGKILL
        assert not any((work / output).exists() for output in OUTPUTS)
    assert commands.run(*segment, "--store", "store").code == 0
    assert [(work / output).read_bytes() for output in OUTPUTS] == expected
    check_store(work / "store")


EARLIER = b"an earlier output"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_inside_a_video_what_was_asked_is_kept(
    commands: Commands, log: Log, work: Path, number: signal.Signals
) -> None:
    clip = write_clip(work / "clip.mp4", FRAMES, SQUARES)
    written = [word for output in OUTPUTS for word in ("-o", output)]
    segment = ("segment-video", clip, *MODELS, *written, "--store", "store")
    commands.environment["COUNTING_DELAY"] = "0.02"
    for output in OUTPUTS:
        (work / output).write_bytes(EARLIER)
    killer = Killer(commands, log, clip, segment)
    started = commands.start(*segment)
    assert started.until(killer.more_calls(60))
    done = started.end(number)
    assert done.code == 128 + number
    assert "Traceback" not in done.err
    assert done.err.splitlines()[-1].endswith(
        "stopped with 0 of 1 files done: run the same command again to go on from there"
    )
    assert [(work / output).read_bytes() for output in OUTPUTS] == [EARLIER, EARLIER]
    assert sorted(path.name for path in work.iterdir()) == ["clip.mp4", *OUTPUTS, "store"]
    # What was in flight is recorded too.
    assert killer.lost_by(started.process.pid) == set()
    assert len(log) < FRAMES + 30
    done = commands.run(*segment, "--json")
    assert done.counts == {"total": 1, "processed": 1, "cached": 0, "failed": 0}
    assert all(set(log.times(kind).values()) == {1} for kind in KINDS)


def test_a_time_limit_ends_a_run_inside_a_video(commands: Commands, log: Log, work: Path) -> None:
    clip = write_clip(work / "clip.mp4", FRAMES, SQUARES)
    segment = ("segment-video", clip, *MODELS, "-o", OUTPUTS[0])
    commands.environment["COUNTING_DELAY"] = "0.03"
    done = commands.run(*segment, "--time-limit", 1)
    assert done.code == 1
    assert done.err.splitlines()[-1].endswith(
        "stopped after the 1 s of --time-limit; 0 of 1 files done: run the same command again to "
        "go on"
    )
    assert not (work / OUTPUTS[0]).exists()
    assert 0 < log.count("detect") < FRAMES
    del commands.environment["COUNTING_DELAY"]
    assert commands.run(*segment).code == 0
    assert all(set(log.times(kind).values()) == {1} for kind in KINDS)
