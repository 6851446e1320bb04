"""SIGINT and SIGTERM: what is done is kept, nothing is half-written, the next run goes on."""

import os
import pty
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from pixano_cli.annotate.run import READ_AHEAD

from .tool import (
    SIGNALLED,
    Commands,
    Log,
    check_store,
    copy_images,
    counting_commands,
    query,
)

CONCURRENCY = 2
NUMBER = 40
OUTPUTS = ("out.json", "out.parquet")
DETECT = (
    *("detect", "photos", "-m", "counting-detector", "--concurrency", CONCURRENCY),
    *("--store", "store", "-o", OUTPUTS[0], "-o", OUTPUTS[1]),
)
EARLIER = b"an earlier output"
DELAY = {"COUNTING_DELAY": "0.05"}
"""So that a run is not over before a test acts."""


@dataclass(frozen=True)
class Expected:
    """What an uninterrupted run writes, and how many images it infers."""

    contents: list[bytes]
    calls: int


@pytest.fixture(scope="module")
def expected(
    tmp_path_factory: pytest.TempPathFactory, gallery: Path, counting_distribution: Path
) -> Expected:
    folder = tmp_path_factory.mktemp("expected")
    copy_images(gallery, folder / "photos", NUMBER)
    log = Log(folder / "log")
    assert counting_commands(folder, counting_distribution, log).run(*DETECT).code == 0
    return Expected([(folder / name).read_bytes() for name in OUTPUTS], log.count())


@pytest.fixture(autouse=True)
def signals_are_not_ignored() -> Iterator[None]:
    """Undo what a shell does to its background jobs, and what these would hand on."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Interrupted:
    """A command that signals meet, with an earlier output in its place."""

    def __init__(self, commands: Commands, log: Log, expected: Expected) -> None:
        self.commands = commands
        self.log = log
        self.expected = expected
        self.store = commands.folder / "store"
        self.outputs = [commands.folder / name for name in OUTPUTS]
        self.put_earlier_outputs()

    def put_earlier_outputs(self) -> None:
        for output in self.outputs:
            output.write_bytes(EARLIER)

    def contents(self) -> list[bytes]:
        return [output.read_bytes() for output in self.outputs]

    def check_untouched(self) -> None:
        assert self.contents() == [EARLIER, EARLIER]
        self.check_no_temporary_file()

    def check_earlier_or_whole(self) -> None:
        for content, whole in zip(self.contents(), self.expected.contents, strict=True):
            assert content in (whole, EARLIER)
        self.check_no_temporary_file()

    def check_no_temporary_file(self) -> None:
        assert not [each for each in self.commands.folder.iterdir() if each.name[:2] == ".p"]

    def answers(self) -> int:
        return query(self.store, "SELECT count(*) FROM inferences")[0][0]

    def check_the_next_run_ends_it(self) -> None:
        before = self.answers() if self.store.exists() else 0
        self.log.clear()
        done = self.commands.run(*DETECT)
        assert done.code == 0, done.err
        assert self.log.count() == self.expected.calls - before
        assert self.contents() == self.expected.contents
        self.check_no_temporary_file()
        check_store(self.store)


@pytest.fixture
def interrupted(
    commands: Commands, log: Log, expected: Expected, photos: Callable[..., Path]
) -> Interrupted:
    photos(NUMBER)
    return Interrupted(commands, log, expected)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_amid_the_run(interrupted: Interrupted, log: Log, number: signal.Signals) -> None:
    interrupted.commands.environment |= DELAY
    started = interrupted.commands.start(*DETECT)
    assert started.until(lambda: len(log) > NUMBER // 3)
    done = started.end(number)
    assert done.code == 128 + number
    assert "Traceback" not in done.err
    assert "stopping" in done.err
    assert done.err.splitlines()[-1].startswith("pixano-annotate: stopped with ")
    interrupted.check_untouched()
    # What was in flight is recorded too.
    assert interrupted.answers() == log.count()
    assert NUMBER // 3 < log.count() <= NUMBER // 3 + 1 + 2 * (CONCURRENCY + READ_AHEAD)
    interrupted.check_the_next_run_ends_it()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_at_any_time_of_the_start(interrupted: Interrupted, number: signal.Signals) -> None:
    for milliseconds in range(20, 500, 90):
        started = interrupted.commands.start(*DETECT)
        with suppress(subprocess.TimeoutExpired):
            started.process.wait(milliseconds / 1000)
        done = started.end(number)
        if "Traceback" in done.err:
            # Python itself was still starting.
            assert done.code != 0
            assert "pixano_cli/cli/app.py" not in done.err
        else:
            assert done.code in SIGNALLED[number], (milliseconds, done)
        # On a fast machine the last ones come when all is done.
        interrupted.check_earlier_or_whole()
    interrupted.check_the_next_run_ends_it()


# A program in which something of the tool takes until a signal has come, and tells when it begins.
WAITS = """
import os, sys, time
from pathlib import Path
from pixano_cli.cli import signals

def waiting(work):
    def begin(*arguments, **keywords):
        Path(os.environ["BEGUN"]).touch()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (
            Path(os.environ["SENT"]).exists() and signals._received
        ):
            time.sleep(0.01)
        return work(*arguments, **keywords)
    return begin

import {module}
{module}.{name} = waiting({module}.{name})
from pixano_cli.cli import main
main()
"""


class Waiting:
    """Sends a signal while something goes on."""

    def __init__(self, interrupted: Interrupted, tmp_path: Path) -> None:
        self.interrupted = interrupted
        self.begun, self.sent = tmp_path / "begun", tmp_path / "sent"
        interrupted.commands.environment |= {"BEGUN": str(self.begun), "SENT": str(self.sent)}

    def signal(self, module: str, name: str, number: int, *command: object) -> tuple[int, str]:
        program = WAITS.format(module=module, name=name)
        started = self.interrupted.commands.start(*command, program=("-c", program))
        assert started.until(self.begun.exists), started.end().err
        started.process.send_signal(number)
        self.sent.touch()
        done = started.end()
        self.begun.unlink()
        self.sent.unlink()
        return done.code, done.err


@pytest.fixture
def waiting(interrupted: Interrupted, tmp_path: Path) -> Waiting:
    return Waiting(interrupted, tmp_path)


@pytest.mark.parametrize(
    ("place", "number"),
    [
        ("pixano_cli.annotate.job.discover", signal.SIGINT),
        ("pixano_cli.annotate.job.open_store", signal.SIGTERM),
        ("pixano_cli.annotate.plan.recall_digests", signal.SIGINT),
        ("pixano_cli.annotate.job.run_items", signal.SIGTERM),
    ],
)
def test_while_it_plans(
    interrupted: Interrupted, waiting: Waiting, place: str, number: signal.Signals
) -> None:
    module, _, name = place.rpartition(".")
    code, err = waiting.signal(module, name, number, *DETECT)
    assert code == 128 + number, err
    assert err.splitlines()[-1].startswith("pixano-annotate: stopped"), err
    assert "Traceback" not in err
    interrupted.check_untouched()
    assert not interrupted.store.exists() or interrupted.answers() == 0


@pytest.mark.parametrize(
    ("place", "number"),
    [
        ("pixano_cli.annotate.outputs.number", signal.SIGTERM),
        ("pixano_cli.formats.coco._image", signal.SIGINT),
        ("pixano_cli.formats.parquet._table", signal.SIGTERM),
        ("pixano_cli.annotate.job.write_failures", signal.SIGINT),
        ("pixano_cli.annotate.job.write_run_file", signal.SIGTERM),
        ("pixano_cli.cli.console.print_summary", signal.SIGINT),
    ],
)
def test_while_it_writes(
    interrupted: Interrupted, waiting: Waiting, place: str, number: signal.Signals
) -> None:
    module, _, name = place.rpartition(".")
    code, err = waiting.signal(module, name, number, *DETECT)
    assert code == 128 + number, err
    assert "Traceback" not in err
    interrupted.check_earlier_or_whole()
    interrupted.check_the_next_run_ends_it()


def test_a_second_signal_quits_at_once(
    interrupted: Interrupted, waiting: Waiting, log: Log
) -> None:
    program = WAITS.format(module="pixano_cli.annotate.outputs", name="number")
    started = interrupted.commands.start(*DETECT, program=("-c", program))
    assert started.until(waiting.begun.exists)
    os.kill(started.process.pid, signal.SIGINT)
    assert started.process.stderr is not None
    while "stopping" not in started.process.stderr.readline():
        continue
    assert started.process.poll() is None
    done = started.end(signal.SIGINT)
    assert done.code == 130
    assert interrupted.contents() == [EARLIER, EARLIER]
    interrupted.check_the_next_run_ends_it()


def test_an_export_that_is_stopped_writes_nothing(
    interrupted: Interrupted, waiting: Waiting
) -> None:
    assert interrupted.commands.run(*DETECT).code == 0
    interrupted.put_earlier_outputs()
    export = ("export", "-o", "out.json", "-o", "out.parquet", "--store", "store")
    code, err = waiting.signal("pixano_cli.formats.coco", "_image", signal.SIGTERM, *export)
    assert code == 143, err
    assert "Traceback" not in err
    interrupted.check_untouched()
    assert interrupted.commands.run(*export).code == 0
    assert interrupted.contents() == interrupted.expected.contents


def test_signals_are_heard_while_the_store_is_locked(interrupted: Interrupted, log: Log) -> None:
    assert interrupted.commands.run(*DETECT).code == 0
    interrupted.put_earlier_outputs()
    with closing(sqlite3.connect(interrupted.store / "store.sqlite3")) as other:
        other.execute("BEGIN IMMEDIATE")
        started = interrupted.commands.start(*DETECT)
        # Nothing tells from outside that it waits for the lock, so the test gives it some time.
        with suppress(subprocess.TimeoutExpired):
            started.process.wait(2)
        started.process.send_signal(signal.SIGINT)
        assert started.process.stderr is not None
        while "stopping" not in started.process.stderr.readline():
            continue
        done = started.end(signal.SIGTERM)
    assert done.code == 143
    interrupted.check_untouched()
    interrupted.check_the_next_run_ends_it()


def test_on_a_terminal(interrupted: Interrupted, log: Log) -> None:
    """A bar is drawn, and a second signal does not leave the cursor hidden."""
    interrupted.commands.environment |= DELAY
    terminal, other_end = pty.openpty()
    started = interrupted.commands.start(*DETECT, stderr=other_end)
    os.close(other_end)
    shown = b""
    with suppress(OSError):  # raised when the other end is closed
        while part := os.read(terminal, 1000):
            shown += part
            if len(log) > NUMBER // 2 and started.process.poll() is None:
                started.process.send_signal(signal.SIGINT)
    os.close(terminal)
    assert started.end().code == 130
    assert b"images/s" in shown
    assert b"stopping" in shown
    assert b"Traceback" not in shown
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")
    interrupted.check_untouched()


def test_an_export_of_a_stopped_run_says_what_is_missing(
    interrupted: Interrupted, log: Log
) -> None:
    interrupted.commands.environment |= DELAY
    started = interrupted.commands.start(*DETECT)
    assert started.until(lambda: len(log) > 5)
    assert started.end(signal.SIGINT).code == 130
    done = interrupted.commands.run("export", "-o", "part.json", "--store", "store", "--json")
    assert done.code == 0
    left = NUMBER - interrupted.answers()
    assert f"{left} of its {NUMBER} files are not in the output" in done.err
    assert done.summary["total"] == interrupted.answers()
