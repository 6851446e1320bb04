"""Servers that go, come back or never come, in the midst of a command: nothing is paid twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread, Timer
from time import monotonic, sleep

import pytest

from pixano_cli.inference.providers import breaker
from pixano_cli.inference.providers.pacing import START
from pixano_cli.inference.providers.remote import RemoteProvider

from .annotating import CHAT, LISTING, Done, Work, end, seer, stop, until
from .own_server import answer
from .test_faults import free_port

ROOT = Path(__file__).parents[2]
Command = Callable[..., Done]


@contextmanager
def seer_process(port: int, log: Path, takes: float) -> Iterator[subprocess.Popen[str]]:
    """Run a seer that can be killed."""
    call = [sys.executable, "-m", "tests.inference.seer_process", str(port), str(log), str(takes)]
    with subprocess.Popen(call, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def noted(log: Path) -> dict[str, Counter[str]]:
    """Return how often each image was asked about, and answered."""
    counts: dict[str, Counter[str]] = {"asked": Counter(), "answered": Counter()}
    for line in log.read_text().splitlines():
        what, digest = line.split()
        counts[what][digest] += 1
    return counts


def is_under_way(noted: dict[str, Counter[str]], answered: int) -> bool:
    """Whether so much is answered, and more was asked that is not."""
    done = noted["answered"].total()
    return done >= answered and noted["asked"].total() > done


def expected(work: Work, command: Command) -> bytes:
    """Return the output of the command where nothing goes wrong."""
    with seer() as model:
        asked = work.command("--provider", "openai", "--url", model.url, out="expected.json")
        asked[asked.index("store")] = "other store"
        assert command(*asked).code == 0
    return work.output("expected.json")


def test_killed_and_started_again(work: Work, command: Command, tmp_path: Path) -> None:
    """The run waits, and goes on; only what was under way is asked again."""
    digests = work.pictures(60)
    log = tmp_path / "log"
    log.touch()
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def is_amid() -> bool:
        seen = noted(log)
        return seen["answered"].total() >= 20 and (seen["asked"] - seen["answered"]).total() >= 4

    with seer_process(port, log, 0.2) as process:
        running = work.start(*work.command("--provider", "openai", "--url", url))
        until(is_amid)
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = noted(log)
    under_way = before["asked"] - before["answered"]
    assert under_way
    assert before["answered"].total() < 60
    sleep(3.0)
    assert running.poll() is None
    with seer_process(port, log, 0.2):
        done = end(running)
    assert done.code == 0, done.err
    assert done.counts == (60, 60, 0, 0)
    assert "is the server running, and the URL right? Waiting up to 300 s for it." in done.err
    assert f"{url}/v1 answers again" in done.err
    after = noted(log)
    assert set(after["answered"]) == set(digests)
    twice = {digest for digest, times in after["asked"].items() if times > 1}
    # What was answered in the last moment may not have arrived.
    assert twice <= set(before["asked"])
    assert len(twice) <= len(under_way) + 4
    assert max(after["asked"].values()) <= 2
    assert work.output() == expected(work, command)


def test_killed_and_gone(
    work: Work, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run gives up, and the next one completes it."""
    # The patience of 300 s is for users.
    short = partial(RemoteProvider.__init__.__globals__["HttpServer"], patience=1.5)
    monkeypatch.setattr("pixano_cli.inference.providers.remote.HttpServer", short)
    digests = work.pictures(40)
    log = tmp_path / "log"
    log.touch()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    asked = work.command("--provider", "openai", "--url", url)
    with seer_process(port, log, 0.1) as process:

        def kill() -> None:
            until(lambda: noted(log)["answered"].total() >= 10)
            process.kill()

        killer = Thread(target=kill)
        killer.start()
        done = command(*asked)
        killer.join()
    assert done.code == 1
    assert "what was not answered is not lost, run again when it is back" in done.err
    assert done.err.count("pixano-annotate: http") == 2, done.err
    assert not (work.folder / "c.json").exists()
    assert work.failed() == []
    before = noted(log)
    with seer_process(port, log, 0.0):
        again = command(*asked)
    assert again.code == 0, again.err
    total, processed, cached, failed = again.counts
    assert (total, processed + cached, failed) == (40, 40, 0)
    # All that has arrived is recorded; what was answered in the last moment may not have, or may
    # not have been noted.
    assert abs(before["answered"].total() - cached) <= START
    after = noted(log)
    assert after["asked"].total() - before["asked"].total() == processed
    assert set(after["answered"]) == set(digests)
    assert work.output() == expected(work, command)


def test_a_server_that_starts_slowly(work: Work, command: Command) -> None:
    digests = work.pictures(6)
    port = free_port()
    ended: list[Done] = []
    asked = work.command("--provider", "openai", "--url", f"http://127.0.0.1:{port}")
    running = work.start(*asked)
    sleep(2.5)
    assert running.poll() is None
    with seer(port=port) as model:
        ended.append(end(running))
        assert model.asked == dict.fromkeys(digests, 1)
    assert ended[0].code == 0, ended[0].err
    assert ended[0].counts == (6, 6, 0, 0)
    assert work.output() == expected(work, command)


def test_a_server_that_loads_its_model(work: Work, command: Command) -> None:
    """It listens, and is unavailable for as long as that takes."""
    work.pictures(6)
    with seer() as model:
        ready = {CHAT: model.own.replies[CHAT], "/v1/models": [LISTING]}
        model.own.on("/v1/models", LISTING, answer({}, 503))
        model.own.on(CHAT, answer({"error": "loading"}, 503))
        Timer(2.0, lambda: model.own.replies.update(ready)).start()
        done = command(*work.command("--provider", "openai", "--url", model.url))
        assert done.code == 0, done.err
        assert model.answered.total() == model.asked.total() == 6


def test_a_server_that_never_comes(
    work: Work, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "FIRST_PATIENCE_S", 0.5)
    work.pictures(6)
    port = free_port()
    asked = work.command("--provider", "openai", "--url", f"http://127.0.0.1:{port}")
    done = command(*asked)
    assert done.code == 1
    last = done.err.splitlines()[-1]
    assert "cannot be reached (connection refused): is the server running, and the URL" in last
    assert not (work.folder / "c.json").exists()
    with seer(port=port) as model:
        assert command(*asked).counts == (6, 6, 0, 0)
        assert model.asked.total() == 6


def test_who_does_not_want_to_wait_for_it_need_not(work: Work, tmp_path: Path) -> None:
    work.pictures(30)
    log = tmp_path / "log"
    log.touch()
    port = free_port()
    asked = work.command("--provider", "openai", "--url", f"http://127.0.0.1:{port}")
    with seer_process(port, log, 0.1) as process:
        running = work.start(*asked)
        until(lambda: noted(log)["answered"].total() >= 5)
        process.kill()
    sleep(2.0)
    start = monotonic()
    done = stop(running)
    assert monotonic() - start < 5.0
    assert done.code == 130
    assert "of 30 files done: run the same command again" in done.err
