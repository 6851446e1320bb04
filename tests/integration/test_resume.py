"""SIGKILL at any moment: nothing is lost, nothing is done twice, nothing half-written is seen."""

import random
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from time import monotonic

from pixano_cli.annotate.run import READ_AHEAD

from .tool import Commands, Log, check_store, query

CONCURRENCY = 2
# What a worker holds from before its call until after its commit is in flight.
IN_FLIGHT = CONCURRENCY + READ_AHEAD


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".pixano-annotate-")]


class Killer:
    """Runs a command, kills it at a moment, and looks at what is left."""

    def __init__(
        self, commands: Commands, log: Log, model: str, kind: str, arguments: tuple[object, ...]
    ) -> None:
        self.commands = commands
        self.log = log
        self.model = model
        self.kind = kind
        self.arguments = arguments
        self.store = commands.folder / "store"
        self.killed: list[str] = []
        self.lost: list[int] = []

    def kill(self, moment: str, is_now: Callable[[], bool]) -> None:
        before = self.answers()
        logged = self.log.count(self.kind)
        started = self.commands.start(*self.arguments)
        done = started.end(signal.SIGKILL) if started.until(is_now) else started.end()
        assert done.code in (0, -signal.SIGKILL), done.err
        if done.code:
            self.killed.append(moment)
        self.lost.append(self.log.count(self.kind) - logged - (self.answers() - before))
        assert self.lost[-1] <= IN_FLIGHT

    def answers(self) -> int:
        """How many answers of a model are on disk: what a kill must not take away."""
        if not self.store.exists() or not query(self.store, "SELECT 1 FROM sqlite_master"):
            return 0
        statement = f"SELECT count(*) FROM inferences WHERE model_id = '{self.model}'"
        assert query(self.store, "PRAGMA integrity_check") == [("ok",)]
        return query(self.store, statement)[0][0]

    def after(self, seconds: float) -> Callable[[], bool]:
        moment = monotonic() + seconds
        return lambda: monotonic() >= moment

    def at_call(self, number: int) -> Callable[[], bool]:
        return lambda: len(self.log) >= number

    def while_writing(self, size: int) -> Callable[[], bool]:
        """Once some output is being written and this large."""

        def is_now() -> bool:
            for name in hidden(self.commands.folder):
                try:
                    if (self.commands.folder / name).stat().st_size >= size:
                        return True
                except FileNotFoundError:
                    continue
            return False

        return is_now


def test_killed_at_25_moments_a_run_ends_as_if_it_had_not_been(
    commands: Commands, log: Log, gallery: Path
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    detect = ("detect", gallery, "-m", "counting-detector", "--concurrency", CONCURRENCY, "-q")
    reference = ("--store", "reference", "-o", "reference.json", "-o", "reference.parquet")
    moment = monotonic()
    started = commands.start(*detect, *reference)
    assert started.until(lambda: len(log) > 0)
    until_first_call = monotonic() - moment
    assert started.end().code == 0
    calls = log.count()
    assert 290 < calls <= 300
    log.clear()

    command = (*detect, "--store", "store", "-o", "out.json", "-o", "out.parquet")
    killer = Killer(commands, log, "counting-detector", "detect", command)
    for seconds in sorted(choose.uniform(0.0, until_first_call) for _ in range(6)):
        killer.kill(f"{seconds:.2f} s after the start", killer.after(seconds))
    numbers = sorted(choose.sample(range(len(log) + 1, calls), 12))
    for before, number in pairwise([len(log), *numbers]):
        # What is inferred in vain is inferred again, so calls are counted from one run to the next.
        killer.kill(f"at call {number}", killer.at_call(len(log) + number - before))
    killer.kill("near the last call", lambda: killer.answers() + IN_FLIGHT >= calls)
    for seconds in (choose.uniform(0.0, 1.5 * until_first_call) for _ in range(3)):
        killer.kill(f"{seconds:.2f} s after the start", killer.after(seconds))
    for size in (0, 1, choose.randrange(2, 100_000)):
        killer.kill(f"writing {size} bytes", killer.while_writing(size))
    while len(killer.killed) < 25:
        # Some of the runs above may have ended before their moment came.
        seconds = choose.uniform(0.0, until_first_call)
        killer.kill(f"{seconds:.2f} s after the start", killer.after(seconds))
    print(f"killed {killer.killed}\ninferred in vain {killer.lost}")
    assert len(killer.killed) == 25

    assert commands.run(*command).code == 0
    for suffix in ("json", "parquet"):
        out, expected = (commands.folder / f"{name}.{suffix}" for name in ("out", "reference"))
        assert out.read_bytes() == expected.read_bytes()
    assert hidden(commands.folder) == []
    check_store(killer.store)
    statement = "SELECT inference_id, data_hash, data FROM inferences ORDER BY inference_id"
    assert query(killer.store, statement) == query(commands.folder / "reference", statement)
    assert len(log.times()) == calls
    again = log.count() - calls
    print(f"{again} images inferred twice after {len(killer.killed)} kills")
    assert again == sum(killer.lost)


def test_killed_while_it_segments_a_run_ends_as_if_it_had_not_been(
    commands: Commands, log: Log, photos: Callable[..., Path]
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    models = ("-m", "counting-segmenter", "--detector", "counting-detector")
    segment = ("segment", photos(12), *models, "--concurrency", CONCURRENCY, "-q")
    reference = ("--store", "reference", "-o", "reference.json", "-o", "reference.parquet")
    assert commands.run(*segment, *reference).code == 0
    encoded, decoded = log.times("encode"), log.times("decode")
    assert len(encoded) >= 8
    assert set(encoded.values()) == {1}
    calls = len(log)
    log.clear()

    command = (*segment, "--store", "store", "-o", "out.json", "-o", "out.parquet")
    killer = Killer(commands, log, "counting-segmenter", "encode", command)
    for _ in range(4):
        number = choose.randint(4, calls // 3)
        killer.kill(f"after {number} more calls", killer.at_call(len(log) + number))

    print(f"killed {killer.killed}\ninferred in vain {killer.lost}")
    assert commands.run(*command).code == 0
    for suffix in ("json", "parquet"):
        out, expected = (commands.folder / f"{name}.{suffix}" for name in ("out", "reference"))
        assert out.read_bytes() == expected.read_bytes()
    assert hidden(commands.folder) == []
    check_store(killer.store)
    again = log.times("encode") - encoded
    assert set(log.times("encode")) == set(encoded)
    assert set(log.times("decode")) == set(decoded)
    assert again.total() == sum(killer.lost)


# The program kills itself before or after a given call that puts a finished file in its place.
DIES_AT_A_REPLACE = """
import os, pathlib, signal
calls = iter(range(100))
replace = pathlib.Path.replace

def dying(self, target):
    number = next(calls)
    if number == int(os.environ["DIES_BEFORE"]):
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)

pathlib.Path.replace = dying
from pixano_cli.cli import main
main()
"""


def test_killed_between_two_outputs_each_is_the_old_one_or_the_new_one(
    commands: Commands, photos: Callable[..., Path]
) -> None:
    folder = photos(6)
    command = ("detect", folder, "-o", "out.json", "-o", "out.parquet", "-q")
    outputs = [commands.folder / name for name in ("out.json", "out.parquet")]
    assert commands.run(*command, "--threshold", 0.6).code == 0
    old = [output.read_bytes() for output in outputs]
    assert commands.run(*command).code == 0
    new = [output.read_bytes() for output in outputs]
    assert all(before != after for before, after in zip(old, new, strict=True))
    for renamed in range(4):
        for output, content in zip(outputs, old, strict=True):
            output.write_bytes(content)
        commands.environment["DIES_BEFORE"] = str(renamed)
        died = commands.run(*command, program=("-c", DIES_AT_A_REPLACE))
        assert died.code == -signal.SIGKILL
        assert [output.read_bytes() for output in outputs] == [*new[:renamed], *old[renamed:]]
    assert commands.run(*command).code == 0
    assert hidden(commands.folder) == []
    assert [output.read_bytes() for output in outputs] == new
