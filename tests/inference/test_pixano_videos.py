"""Objects followed through videos, in windows and by jobs, with each generation."""

import asyncio
import time
from typing import Any

import pytest

from pixano_cli.inference.errors import (
    InferenceError,
    InferenceTimeoutError,
    InvalidRequestError,
)
from pixano_cli.inference.provider import InferenceProvider

from .pixano_asking import ALL, detecting, following, pixano
from .pixano_generations import pixano_server
from .squares import moving, of_colour, painted, url


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIXANO_INFERENCE_API_KEY", raising=False)


@pytest.mark.parametrize("generation", ALL)
@pytest.mark.parametrize("window", [2, 4, 5, 64])
def test_video_in_windows(generation: int, window: int) -> None:
    frames = moving(9)
    with pixano_server(generation, polls=1) as own:

        async def question(provider: InferenceProvider) -> None:
            # The green one is there to be prompted late, in a frame that windows share.
            request = following(9, objects_ids=[7, 3], frame_indexes=[0, 4])
            request.boxes = [[1, 5, 7, 11], [50, 8, 58, 14]]
            result = await provider.video_mask_generation(request)
            found = dict(
                zip(
                    zip(result.data.frame_indexes, result.data.objects_ids, strict=True),
                    result.data.masks,
                    strict=True,
                )
            )
            wanted = {(n, 7): of_colour(frames[n], "red") for n in range(9)}
            wanted |= {(n, 3): of_colour(frames[n], "blue") for n in range(4, 9)}
            assert found == wanted
            assert len(found) == len(result.data.masks)
            assert "lost" not in result.metadata
            assert result.metadata["windows"] == {2: 8, 4: 3, 5: 2, 64: 1}[window]

        pixano(own, question, window=window)
    assert max(len(body["video"]) for body in own.bodies) == min(window, 9)


@pytest.mark.parametrize("generation", ALL)
def test_prompts_by_points_and_boxes_side_by_side(generation: int) -> None:
    frames = moving(5)
    with pixano_server(generation, polls=0) as own:

        async def question(provider: InferenceProvider) -> None:
            # One is carried on by its box or mask, while the other is first prompted by a point.
            request = following(5, boxes=None, frame_indexes=[0, 3])
            request.points, request.labels = [[[2.5, 6]], [[52, 8]]], [[1], [1]]
            result = await provider.video_mask_generation(request)
            assert result.data.objects_ids.count(7) == 5
            assert result.data.objects_ids.count(3) == 2
            for frame, object_id, mask in zip(
                result.data.frame_indexes, result.data.objects_ids, result.data.masks, strict=True
            ):
                assert mask == of_colour(frames[frame], "red" if object_id == 7 else "blue")

        pixano(own, question, window=3)


def test_an_object_that_leaves_is_lost() -> None:
    there = painted({"red": (5, 6, 20, 16)})
    gone = painted({})
    frames = [there, there, gone, there, there]
    with pixano_server(5, polls=0) as own:

        async def question(provider: InferenceProvider) -> None:
            request = following(5, video=[url(frame) for frame in frames])
            request.objects_ids, request.frame_indexes = [1], [0]
            request.boxes = [[5, 6, 20, 16]]
            result = await provider.video_mask_generation(request)
            assert result.metadata["lost"] == {1: 2}
            assert result.data.frame_indexes == [0, 1, 2]

        pixano(own, question, window=3)
    assert len(own.bodies) == 1


def test_windows_in_which_nothing_is_to_be_followed_are_not_sent() -> None:
    with pixano_server(5, polls=0) as own:

        async def question(provider: InferenceProvider) -> None:
            request = following(9, objects_ids=[4], frame_indexes=[7], boxes=[[50, 14, 58, 20]])
            result = await provider.video_mask_generation(request)
            assert result.data.frame_indexes == [7, 8]

        pixano(own, question, window=4)
    assert [len(body["video"]) for body in own.bodies] == [3]


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"objects_ids": [7, 7]}, "two objects with one id"),
        ({"objects_ids": [], "frame_indexes": [], "boxes": None}, "no objects"),
        ({"frame_indexes": [0]}, "2 objects and 1 frame indexes"),
        ({"frame_indexes": [0, 4]}, "frame 4 of 4"),
        ({"boxes": [[1, 2, 3, 4]]}, "2 objects and 1 boxes"),
        ({"boxes": None}, "no points and no boxes"),
        ({"points": [[[1, 2]], [[3, 4]]]}, "points without labels"),
        ({"video": []}, "no frames"),
        ({"boxes": [[1, 2, 3], [1, 2, 3, 4]]}, "is no box"),
    ],
)
def test_what_cannot_be_asked_about_a_video(facts: dict[str, Any], told: str) -> None:
    with pixano_server(5) as own:
        with pytest.raises(InvalidRequestError, match=told):
            pixano(own, lambda provider: provider.video_mask_generation(following(4, **facts)))
        assert own.bodies == []


@pytest.mark.parametrize("generation", [3, 4, 5])
def test_a_forgotten_job_is_submitted_again(generation: int) -> None:
    with pixano_server(generation, forgets=2) as own:

        async def question(provider: InferenceProvider) -> None:
            result = await provider.video_mask_generation(following(3))
            assert len(result.data.masks) == 6

        pixano(own, question)
        assert len(own.bodies) == 3
        assert own.cancelled == []
        own.forgets = 100
        with pytest.raises(InferenceError, match="forgot a job 4 times"):
            pixano(own, lambda provider: provider.video_mask_generation(following(3)))


def test_a_task_whose_result_is_lost_is_submitted_again() -> None:
    with pixano_server(1, forgets=1) as own:

        async def alone(provider: InferenceProvider) -> None:
            started = time.monotonic()
            result = await provider.image_zero_shot_detection(detecting(), 3)
            assert len(result.data.boxes) == 2
            assert 1 < time.monotonic() - started < 3

        pixano(own, alone)
        assert len(own.bodies) == 2
        own.forgets = 1

        async def among_others(provider: InferenceProvider) -> None:
            started = time.monotonic()
            first = asyncio.create_task(provider.image_zero_shot_detection(detecting(), 600))
            while own.forgets:
                await asyncio.sleep(0.02)
            await provider.image_zero_shot_detection(detecting())
            # Another one, begun later, is there: so the first one is lost.
            assert len((await first).data.boxes) == 2
            assert time.monotonic() - started < 10

        pixano(own, among_others)
        assert len(own.bodies) == 5


@pytest.mark.parametrize("generation", [1, 3, 4, 5])
def test_time_out_cancels(generation: int) -> None:
    with pixano_server(generation, polls=10_000) as own:
        started = time.monotonic()
        with pytest.raises(InferenceTimeoutError, match=r"in 0\.\d+ s.*allow more time"):
            pixano(own, lambda provider: provider.video_mask_generation(following(3), 0.6))
        assert time.monotonic() - started < 5
        assert len(own.cancelled) == 1
        assert own.cancelled[0].rpartition("/")[2] in own.waiting


@pytest.mark.parametrize("generation", [1, 5])
def test_who_goes_away_cancels(generation: int) -> None:
    with pixano_server(generation, polls=10_000) as own:

        async def question(provider: InferenceProvider) -> None:
            task = asyncio.create_task(provider.video_mask_generation(following(3)))
            while not own.bodies:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        pixano(own, question)
        assert len(own.cancelled) == 1


@pytest.mark.parametrize(
    ("generation", "ends_as", "told"),
    [
        (1, "FAILURE", "failed ('FAILURE')"),
        (1, "REVOKED", "failed ('REVOKED')"),
        (3, "failed", "('failed': out of memory)"),
        (4, "canceled", "('canceled')"),
        (5, "failed", "('failed': out of memory)"),
    ],
)
def test_tasks_and_jobs_that_fail(generation: int, ends_as: str, told: str) -> None:
    with pixano_server(generation, ends_as=ends_as) as own:
        with pytest.raises(InferenceError) as raised:
            pixano(own, lambda provider: provider.video_mask_generation(following(3)))
        assert told in str(raised.value)


def test_a_task_that_nobody_knows_is_not_waited_for_for_ever() -> None:
    with pixano_server(1) as own:
        own.waiting = _Forgetful()
        with pytest.raises(InferenceTimeoutError):
            pixano(own, lambda provider: provider.image_zero_shot_detection(detecting(), 0.5))


class _Forgetful(dict[str, tuple[int, Any]]):
    def __setitem__(self, key: str, value: tuple[int, Any]) -> None:
        """Keep nothing."""
