"""Objects followed window by window, held against what is painted in the frames."""

from __future__ import annotations

import asyncio
import json
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixano_cli import rle
from pixano_cli.annotate.identity import Request
from pixano_cli.annotate.prompts import PromptError
from pixano_cli.annotate.videos import windowed, windows
from pixano_cli.annotate.videos.at_hand import FrameAtHand, VideoAtHand
from pixano_cli.annotate.videos.finding import Finder, FindInFrame, Found, Nothing
from pixano_cli.annotate.videos.objects import Detected
from pixano_cli.annotate.videos.sampling import Sampling
from pixano_cli.annotate.videos.task import Commit, Followed
from pixano_cli.annotate.videos.windowed import Windowed
from pixano_cli.annotations import Box
from pixano_cli.errors import ModelError
from pixano_cli.inference.errors import (
    InferenceError,
    InferenceTimeoutError,
    InvalidRequestError,
)
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.providers.local import LocalProvider
from pixano_cli.inference.types import (
    InferenceTask,
    VideoMaskGenerationInput,
    VideoMaskGenerationResult,
)
from pixano_cli.inference_store.database import Store, open_store
from pixano_cli.inference_store.frames import Checkpoint
from pixano_cli.inference_store.ledger import Item, Picture
from pixano_cli.media.decode import RGBImage
from pixano_cli.media.video import Frame, Video, VideoFacts
from pixano_cli.models import base, plugins, register_model
from pixano_cli.models.tracking import TrackingInput, TrackingModel, TrackingOutput

WIDTH, HEIGHT = 40, 36
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
SIDE = 8


@dataclass(frozen=True)
class Call:
    """What the model was asked, with the number of frames."""

    frames: int
    objects_ids: list[int]
    frame_indexes: list[int]
    boxes: list[list[float]] | None
    points: list[list[list[float]]] | None


CALLS: list[Call] = []


class Colours(TrackingModel):
    """Follows the colour that a prompt is on; notes what it is asked."""

    def load_model(self) -> None:
        pass

    def predict(self, input: TrackingInput) -> TrackingOutput:  # noqa: A002
        video: list[Any] = input.video
        CALLS.append(
            Call(len(video), input.objects_ids, input.frame_indexes, input.boxes, input.points)
        )
        ids, frames, masks = [], [], []
        for place, (number, first) in enumerate(
            zip(input.objects_ids, input.frame_indexes, strict=True)
        ):
            x, y = self.point(input, place)
            colour = video[first][int(y), int(x)]
            for index in range(first, len(video)):
                ids.append(number)
                frames.append(index)
                masks.append(rle.encode((video[index] == colour).all(axis=-1)))
        return TrackingOutput(objects_ids=ids, frame_indexes=frames, masks=masks)

    def point(self, asked: TrackingInput, place: int) -> Sequence[float]:
        if asked.points is not None and asked.labels is not None:
            for xy, label in zip(asked.points[place], asked.labels[place], strict=True):
                if label:
                    return xy
        assert asked.boxes is not None
        x1, y1, x2, y2 = asked.boxes[place]
        return (x1 + x2) / 2, (y1 + y2) / 2


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins.discover_models()
    monkeypatch.setattr(base, "_REGISTRY", dict(base._REGISTRY))
    register_model("colours")(Colours)
    CALLS.clear()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(tmp_path_factory.mktemp("store") / "store") as opened:
        yield opened


Scene = Sequence[Mapping[int, tuple[int, int]]]
"""For each frame where each colour's square begins: (x, y)."""


def paint(squares: Mapping[int, tuple[int, int]]) -> RGBImage:
    pixels = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    for colour, (x, y) in squares.items():
        pixels[y : y + SIDE, x : x + SIDE] = COLOURS[colour]
    return pixels


def mask_of(squares: Mapping[int, tuple[int, int]], colour: int) -> dict[str, Any]:
    return rle.encode((paint(squares) == COLOURS[colour]).all(axis=-1)).to_dict()


def box_of(squares: Mapping[int, tuple[int, int]], colour: int) -> list[int]:
    x, y = squares[colour]
    return [x, y, x + SIDE, y + SIDE]


def scene(count: int, *hidden: tuple[int, int]) -> Scene:
    """Return a scene of all colours in which those of (frame, colour) are hidden."""
    return [
        {
            colour: ((3 * frame + 5 * colour) % (WIDTH - SIDE), colour * (SIDE + 4))
            for colour in range(len(COLOURS))
            if (frame, colour) not in hidden
        }
        for frame in range(count)
    ]


class PaintedFrame(Frame):
    file_name = None

    def __init__(self, video: Painted, index: int) -> None:
        self.index = index
        self.timestamp_s = index / 10
        self._video = video

    def image(self) -> RGBImage:
        pixels = paint(self._video.scene[self.index])
        self._video.alive.add(self.index)
        weakref.finalize(pixels, self._video.alive.discard, self.index)
        self._video.most_alive = max(self._video.most_alive, len(self._video.alive))
        return pixels


class Painted(Video):
    """A video that is painted as it is read, and counts what is in memory of it."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.facts = VideoFacts(WIDTH, HEIGHT, 10.0, "painted", len(scene))
        self.alive: set[int] = set()
        self.most_alive = 0

    def frames(self) -> Iterator[Frame]:
        for index in range(len(self.scene)):
            yield PaintedFrame(self, index)

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class SeesAll(Finder):
    """Finds all squares."""

    request: None = None

    def in_video(self, video: VideoAtHand, store: Store) -> FindInFrame:
        async def find(at: FrameAtHand) -> Found:
            painted = video.video
            assert isinstance(painted, Painted)
            squares = painted.scene[at.index]
            return Found(
                tuple(
                    Detected(f"colour {each}", 0.75, Box(*map(float, box_of(squares, each))))
                    for each in squares
                )
            )

        return find


@dataclass
class Job:
    """What is asked about a scene."""

    scene: Scene
    prompts: Sequence[Mapping[str, Any]] | None = None
    window: int = 5
    detect_every: int = 1
    sampling: Sampling = field(default_factory=Sampling)
    timeout: float = 60.0
    provider: Callable[[], InferenceProvider] = lambda: LocalProvider(concurrency=1)

    def run(
        self, store: Store, checkpoint: Checkpoint | None = None, kill_after: int | None = None
    ) -> list[Followed]:
        """Follow the objects, as far as the run comes."""
        video = Painted(self.scene)
        done = asyncio.run(self._run(video, store, checkpoint, kill_after))
        self.most_alive = video.most_alive
        return done

    async def _run(
        self, video: Video, store: Store, checkpoint: Checkpoint | None, kill_after: int | None
    ) -> list[Followed]:
        provider = self.provider()
        request = Request(
            InferenceTask.VIDEO_MASK_GENERATION.value, provider.name, "colours", "", {}
        )
        task = Windowed(
            provider=provider,
            tracking=request,
            finder=SeesAll() if self.prompts is None else Nothing(),
            threshold=0.5,
            parameters={},
            sampling=self.sampling,
            detect_every=self.detect_every,
            checkpoint_every=self.window,
            timeout=self.timeout,
            window=self.window,
        )
        text = None if self.prompts is None else json.dumps(self.prompts)
        item = Item("clip", ".", "file:///clip", -1, -1, "0" * 64, text)
        picture = Picture("0" * 64, 1, WIDTH, HEIGHT, 1, "painted")
        at_hand = VideoAtHand(item, picture, "run", video)
        work = task.plan.work(item, "0" * 64)
        done: list[Followed] = []
        try:
            async with aclosing(task.follow(at_hand, work, store, checkpoint)) as frames:
                async for each in frames:
                    if len(done) == kill_after:
                        break
                    done.append(each)
        finally:
            await provider.aclose()
        return done


def elements(followed: Sequence[Followed]) -> list[list[dict[str, Any]]]:
    return [[dict(each) for each in frame.records[-1].elements or ()] for frame in followed]


def committed(followed: Sequence[Followed]) -> list[Followed]:
    """Return the frames up to the last commit."""
    places = [at for at, each in enumerate(followed, start=1) if each.commit is Commit.AT_ONCE]
    return [*followed[: max(places, default=0)]]


def checkpoint_of(followed: Sequence[Followed]) -> Checkpoint | None:
    if not followed:
        return None
    last = followed[-1]
    assert last.state is not None

    async def state(asked: Callable[[], Awaitable[bytes]]) -> bytes:
        return await asked()

    return Checkpoint(len(followed), last.at.index + 1, state=asyncio.run(state(last.state)))


def seams(count: int, window: int) -> set[int]:
    return set(range(window - 1, count - 1, window - 1))


def prompt_of(squares: Mapping[int, tuple[int, int]], colour: int, form: str) -> dict[str, Any]:
    """Return a prompt for a square in one of the forms."""
    box = box_of(squares, colour)
    point, beside = [box[0] + 2, box[1] + 2], [WIDTH - 1, HEIGHT - 1]
    return {
        "box": {"box": box},
        "point": {"points": [beside, point], "labels": [0, 1]},
        "both": {"box": box, "points": [point]},
        "mask": {"mask": mask_of(squares, colour)},
    }[form]


@st.composite
def prompted(draw: st.DrawFn) -> tuple[Scene, list[dict[str, Any]], list[tuple[int, int, int]]]:
    """Scenes, prompts for them, and (frame, object, colour) of each; some correct others."""
    count = draw(st.integers(1, 20))
    places = st.tuples(st.integers(0, count - 1), st.integers(0, len(COLOURS) - 1))
    hidden = draw(st.sets(places, max_size=30))
    frames = scene(count, *hidden)
    prompts, meant = [], []
    for number in draw(st.lists(st.sampled_from([0, 3, 2**62]), min_size=1, unique=True)):
        for frame in sorted(draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=4))):
            if frames[frame]:
                colour = draw(st.sampled_from(sorted(frames[frame])))
                form = draw(st.sampled_from(["box", "point", "both", "mask"]))
                where = prompt_of(frames[frame], colour, form)
                prompts.append({"object_id": number, "frame_index": frame, **where})
                meant.append((frame, number, colour))
    return frames, prompts, meant


@settings(max_examples=60)
@given(given_=prompted(), window=st.integers(2, 8), kills=st.lists(st.integers(0, 20), max_size=2))
def test_objects_that_are_named_are_where_they_are_painted(
    store: Store,
    given_: tuple[Scene, list[dict[str, Any]], list[tuple[int, int, int]]],
    window: int,
    kills: list[int],
) -> None:
    frames, prompts, meant = given_
    wanted: list[list[dict[str, Any]]] = []
    followed: dict[int, int] = {}
    for index, squares in enumerate(frames):
        prompted_here = {number: colour for frame, number, colour in meant if frame == index}
        followed |= prompted_here
        if index in seams(len(frames), window):
            followed = {each: colour for each, colour in followed.items() if colour in squares}
        wanted.append(
            [
                {
                    "label": "object",
                    "score": None,
                    "track_id": number,
                    "rle": mask_of(squares, followed[number]),
                }
                for number in sorted(followed)
                if followed[number] in squares
            ]
        )
    check(store, Job(frames, prompts, window), wanted, kills)


@settings(max_examples=60)
@given(
    count=st.integers(1, 20),
    hidden=st.sets(st.tuples(st.integers(0, 19), st.integers(0, 2)), max_size=40),
    window=st.integers(2, 8),
    detect_every=st.integers(1, 6),
    kills=st.lists(st.integers(0, 20), max_size=2),
)
def test_objects_that_are_found_are_where_they_are_painted(
    store: Store,
    count: int,
    hidden: set[tuple[int, int]],
    window: int,
    detect_every: int,
    kills: list[int],
) -> None:
    frames = scene(count, *hidden)
    wanted: list[list[dict[str, Any]]] = []
    ids: dict[int, int] = {}
    last_id = 0
    for index, squares in enumerate(frames):
        if index in seams(count, window):
            ids = {colour: each for colour, each in ids.items() if colour in squares}
        if index % detect_every == 0:
            for colour in sorted(set(squares) - set(ids), key=lambda each: squares[each]):
                last_id += 1
                ids[colour] = last_id
        wanted.append(
            [
                {
                    "label": f"colour {colour}",
                    "score": 0.75,
                    "track_id": number,
                    "rle": mask_of(squares, colour),
                }
                for colour, number in sorted(ids.items(), key=lambda each: each[1])
                if colour in squares
            ]
        )
    check(store, Job(frames, None, window, detect_every), wanted, kills)


def check(store: Store, job: Job, wanted: list[list[dict[str, Any]]], kills: list[int]) -> None:
    """Check an answer, without and with kills, and what is asked again after each of them."""
    CALLS.clear()
    whole = job.run(store)
    assert elements(whole) == wanted
    assert [each.at.index for each in whole] == [*range(len(job.scene))]
    # The window itself is in one buffer.
    assert job.most_alive <= 2
    assert all(call.frames <= job.window for call in CALLS)
    done: list[Followed] = []
    for kill_after in kills:
        begun = job.run(store, checkpoint_of(done), kill_after)
        kept = committed(begun)
        # What is lost is less than a window.
        assert len(begun) - len(kept) <= job.window
        done += kept
    done += job.run(store, checkpoint_of(done))
    assert elements(done) == wanted
    assert [each.records[-1].inference_id for each in done] == [
        each.records[-1].inference_id for each in whole
    ]


def test_one_request_a_window_that_begins_with_boxes_of_the_last_masks(store: Store) -> None:
    frames = scene(9)
    prompts = [
        {"object_id": 5, "frame_index": 0, "box": box_of(frames[0], 0)},
        {"object_id": 6, "frame_index": 5, "points": [[box_of(frames[5], 1)[0] + 1, 13]]},
    ]
    CALLS.clear()
    Job(frames, prompts, window=4).run(store)
    assert [(call.frames, call.objects_ids, call.frame_indexes) for call in CALLS] == [
        (4, [5], [0]),
        (4, [5], [0]),
        # Prompts of another kind are another request, of the frames that it is about.
        (2, [6], [0]),
        (3, [5, 6], [0, 0]),
    ]
    assert CALLS[1].boxes == [box_of(frames[3], 0)]
    assert CALLS[3].boxes == [box_of(frames[6], 0), box_of(frames[6], 1)]


def test_who_is_prompted_anew_in_a_seam_is_not_carried_over_it(store: Store) -> None:
    frames = scene(6)
    prompts = [
        {"object_id": 5, "frame_index": frame, "box": box_of(frames[frame], 0)} for frame in (0, 3)
    ]
    CALLS.clear()
    Job(frames, prompts, window=4).run(store)
    assert [(call.frames, call.objects_ids) for call in CALLS] == [(4, [5]), (3, [5])]


def test_found_and_carried_objects_go_in_one_request(store: Store) -> None:
    frames = scene(13, *((frame, 2) for frame in range(6)))
    CALLS.clear()
    job = Job(frames, None, window=7, detect_every=6)
    job.run(store)
    assert [(call.frames, len(call.objects_ids)) for call in CALLS] == [(7, 2), (7, 3)]


def test_nothing_is_asked_where_nothing_is_followed(store: Store) -> None:
    frames = scene(12)
    CALLS.clear()
    prompt = {"object_id": 1, "frame_index": 10, "box": box_of(frames[10], 2)}
    followed = Job(frames, [prompt], window=4).run(store)
    assert [call.frames for call in CALLS] == [2]
    assert [len(each) for each in elements(followed)] == [0] * 10 + [1, 1]


def test_frames_that_are_left_out(store: Store) -> None:
    frames = scene(30)
    prompt = {"object_id": 1, "frame_index": 6, "box": box_of(frames[6], 0)}
    followed = Job(frames, [prompt], window=4, sampling=Sampling(every=3)).run(store)
    assert [each.at.index for each in followed] == [*range(0, 30, 3)]
    assert [[element["rle"] for element in each] for each in elements(followed)] == [
        [mask_of(frames[at], 0)] if at >= 6 else [] for at in range(0, 30, 3)
    ]


@pytest.mark.parametrize("frame", [4, 29, 100])
def test_a_prompt_in_a_frame_that_is_not_looked_at(store: Store, frame: int) -> None:
    frames = scene(30)
    prompts = [
        {"object_id": 1, "frame_index": 0, "box": [0, 0, 4, 4]},
        {"object_id": 2, "frame_index": frame, "box": [0, 0, 4, 4]},
    ]
    with pytest.raises(InvalidRequestError, match=f"object 2 is prompted in frame {frame}, which"):
        Job(frames, prompts, window=4, sampling=Sampling(every=3)).run(store)


def test_a_prompt_that_does_not_fit(store: Store) -> None:
    prompt = {"object_id": 1, "frame_index": 0, "box": [50, 40, 60, 50]}
    with pytest.raises(PromptError, match="is outside the 40x36 frame"):
        Job(scene(3), [prompt]).run(store)


def test_who_is_lost_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(windowed.logger, "info", lambda text, *given: told.append(text % given))
    frames = scene(9, (4, 1))
    prompts = [
        {"object_id": 1, "frame_index": 0, "box": box_of(frames[0], 0)},
        {"object_id": 2, "frame_index": 0, "box": box_of(frames[0], 1)},
    ]
    followed = Job(frames, prompts, window=5).run(store)
    assert [len(each) for each in elements(followed)] == [2] * 4 + [1] * 5
    assert told == [
        "clip: object 2 is not to be seen in frame 4, where a window ends, and is followed no more"
    ]


def test_corrections_that_only_say_where_an_object_is_not(store: Store) -> None:
    frames = scene(8, (5, 1))
    beside = {"points": [[39, 35]], "labels": [0]}
    empty = {"mask": rle.encode(np.zeros((HEIGHT, WIDTH), np.bool_)).to_dict()}
    prompts = [
        {"object_id": 1, "frame_index": 0, "box": box_of(frames[0], 0)},
        {"object_id": 1, "frame_index": 2, **beside},
        {"object_id": 1, "frame_index": 3, **empty},
        {"object_id": 2, "frame_index": 0, "box": box_of(frames[0], 1)},
        # Nothing of it is to be seen there.
        {"object_id": 2, "frame_index": 5, **beside},
    ]
    CALLS.clear()
    followed = Job(frames, prompts, window=20).run(store)
    ids = [[each["track_id"] for each in frame] for frame in elements(followed)]
    assert ids == [[1, 2]] * 3 + [[2]] * 2 + [[]] + [[2]] * 2
    assert [(call.objects_ids, call.boxes, call.points) for call in CALLS[1:]] == [
        # With what it is about.
        ([1], [box_of(frames[2], 0)], [[[39, 35]]])
    ]


def test_a_given_mask_stays_as_it_is(store: Store) -> None:
    frames = scene(4)
    drawn = paint(frames[1])[..., 0] == 255
    drawn[0, 0] = True
    given_mask = rle.encode(drawn).to_dict()
    prompt = {"object_id": 1, "frame_index": 1, "mask": given_mask}
    # The model is asked by the box of the mask, in whose middle is what it follows.
    drawn_box = rle.bounding_box(rle.encode(drawn))
    CALLS.clear()
    followed = elements(Job(frames, [prompt]).run(store))
    assert CALLS[0].boxes == [[*drawn_box]]
    assert followed[0] == []
    assert followed[1][0]["rle"] == given_mask


class Answering(LocalProvider):
    """Changes what the model answers."""

    def __init__(self, change: Callable[[VideoMaskGenerationResult], None]) -> None:
        super().__init__(concurrency=1)
        self._change = change

    async def video_mask_generation(
        self, input_data: VideoMaskGenerationInput, timeout: float = 120.0
    ) -> VideoMaskGenerationResult:
        result = await super().video_mask_generation(input_data, timeout)
        self._change(result)
        return result


def _all_of_the_first(result: VideoMaskGenerationResult) -> None:
    for place, frame in enumerate(result.data.frame_indexes):
        if frame == 0:
            result.data.masks[place] = rle.encode(np.ones((HEIGHT, WIDTH), np.bool_))


def test_of_two_answers_about_a_frame_that_of_the_earlier_window_counts(store: Store) -> None:
    frames = scene(9)
    prompts = [
        {"object_id": 1, "frame_index": 0, "box": box_of(frames[0], 0)},
        {"object_id": 2, "frame_index": 4, "box": box_of(frames[4], 1)},
    ]
    job = Job(frames, prompts, window=5, provider=lambda: Answering(_all_of_the_first))
    areas = [
        {each["track_id"]: rle.area(rle.CompressedRLEData.from_dict(each["rle"])) for each in found}
        for found in elements(job.run(store))
    ]
    square, whole = SIDE * SIDE, WIDTH * HEIGHT
    later = [{1: square, 2: square}] * 4
    assert areas == [{1: whole}, *[{1: square}] * 3, {1: square, 2: whole}, *later]


def _other_id(result: VideoMaskGenerationResult) -> None:
    result.data.objects_ids[-1] = 99


def _other_frame(result: VideoMaskGenerationResult) -> None:
    result.data.frame_indexes[-1] = 5


def _other_size(result: VideoMaskGenerationResult) -> None:
    result.data.masks[-1] = rle.encode(np.ones((3, 3), np.bool_))


def _one_less(result: VideoMaskGenerationResult) -> None:
    result.data.masks.pop()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_other_id, "object 99, which was not asked for"),
        (_other_frame, "frame 5 of 5"),
        (_other_size, "3"),
        (_one_less, "objects, frames and masks differ"),
    ],
)
def test_malformed_answers(
    store: Store, change: Callable[[VideoMaskGenerationResult], None], told: str
) -> None:
    frames = scene(9)
    prompt = {"object_id": 1, "frame_index": 0, "box": box_of(frames[0], 0)}
    with pytest.raises(InferenceError, match=f"answer is malformed: .*{told}") as raised:
        Job(frames, [prompt], provider=lambda: Answering(change)).run(store)
    assert "\n" not in str(raised.value)


def test_a_window_that_takes_too_long(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Colours, "load_model", lambda self: time.sleep(0.5))
    frames = scene(9)
    prompt = {"object_id": 1, "frame_index": 0, "box": box_of(frames[0], 0)}
    with pytest.raises(InferenceTimeoutError):
        Job(frames, [prompt], timeout=0.05).run(store)


def test_a_damaged_checkpoint(store: Store) -> None:
    frames = scene(9)
    for state in (b"", b"{}", b'{"masks": 3}'):
        with pytest.raises(ModelError, match="checkpoint of a video is damaged"):
            Job(frames, []).run(store, Checkpoint(4, 4, state=state))


def test_large_frames_make_windows_shorter(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "WINDOW_BYTES", 3 * 3 * WIDTH * HEIGHT + 1)
    frames = scene(9)
    prompt = {"object_id": 1, "frame_index": 0, "box": box_of(frames[0], 0)}
    CALLS.clear()
    job = Job(frames, [prompt], window=8)
    followed = job.run(store)
    assert [call.frames for call in CALLS] == [3] * 4
    assert [len(each) for each in elements(followed)] == [1] * 9
    CALLS.clear()
    monkeypatch.setattr(windows, "WINDOW_BYTES", 1)
    job.run(store)
    assert [call.frames for call in CALLS] == [2] * 8
