"""Commands that are to stop, or to be slow: what is answered is kept, what waits costs nothing."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from time import monotonic

import pytest

from .annotating import PATIENCE_S, Seer, Work, end, say, seer, stop, until
from .own_server import Handler, answer

COUNT = 60


@pytest.fixture
def model() -> Iterator[Seer]:
    with seer() as running:
        yield running


def asked(work: Work, model: Seer, *options: str, out: str = "c.json") -> list[str]:
    return work.command("--provider", "openai", "--url", model.url, *options, out=out)


def check_the_rest(work: Work, model: Seer, digests: list[str], *options: str) -> None:
    """Check that all that was answered is recorded, and that only the rest is asked for then."""
    done_before = model.answered.total()
    assert model.asked == model.answered
    assert max(model.answered.values(), default=0) <= 1
    assert not (work.folder / "c.json").exists()
    assert work.failed() == []
    model.takes = 0.0
    done = end(work.start(*asked(work, model, *options)))
    assert done.code == 0, done.err
    assert done.counts == (len(digests), len(digests) - done_before, done_before, 0)
    assert model.asked == model.answered == dict.fromkeys(digests, 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_requests_are_under_way(work: Work, model: Seer, number: int) -> None:
    digests = work.pictures(COUNT)
    model.takes = 1.0
    running = work.start(*asked(work, model, "--concurrency", "4"))
    until(lambda: model.asked.total() >= 6)
    assert model.answered.total() >= 2
    start = monotonic()
    done = stop(running, number)
    # Those under way, and none of those that wait for their turn.
    assert monotonic() - start < 4.0
    assert 6 <= model.asked.total() <= 12
    assert done.code == 128 + number
    assert f"{model.answered.total()} of {COUNT} files done: run the same command" in done.err
    check_the_rest(work, model, digests, "--concurrency", "4")


def test_a_signal_while_a_limit_keeps_requests_waiting(work: Work, model: Seer) -> None:
    digests = work.pictures(COUNT)
    running = work.start(*asked(work, model, "--rpm", "60"))
    until(lambda: model.answered.total() >= 2)
    start = monotonic()
    done = stop(running)
    assert monotonic() - start < 4.0
    assert done.code == 130
    check_the_rest(work, model, digests)


def test_a_signal_while_the_server_wants_to_be_left_alone(work: Work, model: Seer) -> None:
    digests = work.pictures(8)
    refuse = answer({}, 429, Retry_After="60")

    def refuse_once_all_are_asked(handler: Handler) -> None:
        until(lambda: model.asked.total() >= 8)
        refuse(handler)

    # The first requests are refused for a minute; they have waited before, and are first again.
    model.again = dict.fromkeys(digests[:2], refuse_once_all_are_asked)
    running = work.start(*asked(work, model))
    until(lambda: model.asked.total() >= 8)
    start = monotonic()
    done = stop(running)
    assert monotonic() - start < 5.0
    assert done.code == 130
    model.again.clear()
    for digest in digests[:2]:
        del model.asked[digest]
    check_the_rest(work, model, digests)


def test_a_time_limit_while_requests_are_under_way(work: Work, model: Seer) -> None:
    digests = work.pictures(COUNT)
    model.takes = 0.5
    start = monotonic()
    done = end(work.start(*asked(work, model, "--concurrency", "4", "--time-limit", "2")))
    assert monotonic() - start < 8.0
    assert done.code == 1
    assert "stopped after the 2 s of --time-limit; " in done.err
    assert f"{model.answered.total()} of {COUNT} files done: run the same command" in done.err
    assert 8 <= model.asked.total() <= 24
    check_the_rest(work, model, digests)


@pytest.mark.parametrize("concurrency", [[], ["--concurrency", "16"]])
def test_a_cost_that_is_not_passed_at_any_concurrency(
    work: Work, model: Seer, concurrency: list[str]
) -> None:
    digests = work.pictures(40)
    (work.folder / "prices.json").write_text(json.dumps({"seer": {"input": 1000, "output": 0}}))
    model.takes = 0.05
    # An answer costs 10 cents.
    limits = ["--max-cost", "1.55", "--prices", "prices.json", *concurrency]
    for cached in (0, 15):
        done = end(work.start(*asked(work, model, *limits)))
        assert done.code == 1, done.err
        assert "stopped at $1.5000: one more answer could pass the $1.5500" in done.err
        assert model.asked.total() == model.answered.total() == cached + 15
        assert f"{cached + 15} of 40 files done" in done.err
    done = end(work.start(*asked(work, model, *limits)))
    assert done.code == 0
    assert done.counts == (40, 10, 30, 0)
    assert done.summary["cost"] == 1.0
    assert model.asked == dict.fromkeys(digests, 1)


def test_what_failed_and_was_paid_for_counts(work: Work, model: Seer) -> None:
    digests = work.pictures(10)
    (work.folder / "prices.json").write_text(json.dumps({"seer": {"input": 1000, "output": 0}}))
    for digest in digests[:5]:
        model.again[digest] = say("")
    done = end(work.start(*asked(work, model, "--max-cost", "0.75", "--prices", "prices.json")))
    assert done.code == 1
    assert model.asked.total() == 7
    assert "stopped at $0.7000" in done.err
    assert "7 of 10 files done" in done.err


def test_no_more_requests_a_minute_than_asked_for(work: Work, model: Seer) -> None:
    work.pictures(10)
    done = end(work.start(*asked(work, model, "--rpm", "60", "--concurrency", "8")))
    assert done.code == 0, done.err
    assert done.counts == (10, 10, 0, 0)
    moments = model.moments
    assert len(moments) == 10
    # All requests of the command count, that for the models too; a second's worth comes at once.
    for first in moments:
        assert sum(first <= each < first + 2.95 for each in moments) <= 4
    assert moments[-1] - moments[0] >= 7.0
    assert moments[-1] - moments[0] < PATIENCE_S / 4
