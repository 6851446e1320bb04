"""Many images and many faults at once, and two processes: how often each image is asked about."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from .annotating import USAGE, Done, Seer, Work, end, say, seer
from .own_server import Reply, after, answer, break_off, end_early, garbage, reset, text

Command = Callable[..., Done]

# What no image was answered by, and what was answered and got lost or spoilt on the way.
BEFORE: tuple[Reply, ...] = (
    answer({}, 429),
    answer({}, 429, Retry_After="0"),
    answer({}, 429, Retry_After="1"),
    answer({}, 502),
    answer({}, 503),
    answer({"error": {"message": "overloaded"}}, 529),
    answer({}, 500),
    answer({"error": "no"}, 400),
    reset,
    garbage,
)
WITHIN: tuple[Reply, ...] = (
    break_off,
    end_early,
    text('{"choices": [{"mess'),
    answer({"choices": []}),
    say("", USAGE),
    text("<html>", kind="text/html"),
    text(b" " * 9_000_000),
)


@pytest.fixture
def model() -> Iterator[Seer]:
    with seer() as running:
        yield running


def asked(work: Work, model: Seer, *options: str, out: str = "c.json") -> list[str]:
    return work.command("--provider", "openai", "--url", model.url, *options, out=out)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_fifth_of_all_requests_goes_wrong(
    work: Work, command: Command, model: Seer, seed: int
) -> None:
    draw = random.Random(seed)
    digests = work.pictures(200)
    model.faults = {digest: [] for digest in digests}
    spoilt = 0
    for faults in model.faults.values():
        while draw.random() < 0.2:
            fault = draw.choice(BEFORE + WITHIN)
            spoilt += fault in WITHIN
            faults.append(after(draw.random() * 0.05, fault))
    planned = sum(map(len, model.faults.values()))
    assert planned > 30
    assert spoilt > 8
    model.takes = 0.01
    recorded = runs = 0
    before = 0
    while recorded < 200:
        done = command(*asked(work, model, "--concurrency", "16"))
        assert done.code == (3 if done.summary["failed"] else 0), done.err
        total, processed, cached, failed = done.counts
        assert (total, cached, processed + cached + failed) == (200, recorded, 200)
        assert len(work.failed()) == failed
        assert all(each["stage"] == "infer" and each["message"] for each in work.failed())
        # What the server has answered well is recorded, and only that.
        recorded = processed + cached
        assert model.answered.total() == recorded
        assert model.asked.total() > before
        before = model.asked.total()
        runs += 1
        assert runs < 10
    assert model.answered == dict.fromkeys(digests, 1)
    assert not any(model.faults.values())
    # One request for each fault, and one for the answer: none is repeated without a cause.
    assert model.asked.total() == 200 + planned
    assert not (work.folder / "c.json.failed.jsonl").exists()
    assert command(*asked(work, model)).counts == (200, 0, 200, 0)

    written = work.output()
    with seer() as sound:
        faultless = asked(work, sound, out="expected.json")
        faultless[faultless.index("store")] = "other store"
        assert command(*faultless).code == 0
    assert written == work.output("expected.json")


def test_two_processes_over_one_store(work: Work, model: Seer) -> None:
    """Both may have an image in flight, but what one has recorded the other does not ask for."""
    digests = work.pictures(200)
    model.takes = 0.05
    options = ("--concurrency", "4")
    started = [
        work.start(*asked(work, model, *options, out=out)) for out in ("one.json", "two.json")
    ]
    ended = [end(each) for each in started]
    for done in ended:
        assert done.code == 0, done.err
        total, processed, cached, failed = done.counts
        assert (total, processed + cached, failed) == (200, 200, 0)
    assert work.output("one.json") == work.output("two.json")
    repeated = model.asked.total() - 200
    print(f"{repeated} of 200 images were asked about twice")
    assert set(model.asked) == set(digests)
    assert max(model.asked.values()) <= 2
    asked_so_far = model.asked.total()
    again = end(work.start(*asked(work, model, out="one.json")))
    assert again.counts == (200, 0, 200, 0)
    assert model.asked.total() == asked_so_far
    # They go towards each other: at most what both have begun as they meet.
    assert repeated <= 16
