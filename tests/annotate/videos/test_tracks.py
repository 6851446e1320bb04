"""Identities: known motions keep theirs, and the rules hold for whatever is detected."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixano_cli import rle
from pixano_cli.annotate.videos.objects import Detected
from pixano_cli.annotate.videos.tracks import (
    GivenTracks,
    Identities,
    Linked,
    Linker,
    between,
    distinct,
    iou,
    label_of_tracks,
    match_new,
)
from pixano_cli.annotations import Box
from pixano_cli.errors import ModelError

THRESHOLD = 0.5

Frame = list[Detected]
Motion = Callable[[int], Box | None]


def linked(
    frames: Sequence[Frame], rate: float = 30.0, to: Identities | None = None
) -> list[list[Linked]]:
    linker = Linker(THRESHOLD, rate) if to is None else to
    answers = [linker.push(frame) for frame in frames]
    assert answers[:1] == [None] * len(answers[:1])
    last = linker.flush()
    assert linker.flush() is None
    kept = [*answers[1:], last] if frames else []
    assert (last is None) == (not frames)
    return [each for each in kept if each is not None]


def moving(
    x: float, y: float, right: float, down: float = 0.0, size: float = 60.0, start: int = 0
) -> Motion:
    def at(index: int) -> Box | None:
        if index < start:
            return None
        steps = index - start
        left, top = x + right * steps, y + down * steps
        return Box(left, top, left + size, top + 1.5 * size)

    return at


def film(count: int, *motions: Motion, score: float = 0.8) -> list[Frame]:
    """Frames in which each motion is detected exactly, under its number as its label."""
    return [
        [
            Detected(str(number), score, box)
            for number, motion in enumerate(motions)
            if (box := motion(index)) is not None
        ]
        for index in range(count)
    ]


def ids(answers: list[list[Linked]], label: str = "0") -> list[int | None]:
    """The identity that an object has in each frame, None where it is not there."""
    return [
        next((track_id for found, track_id in frame if found.label == label), None)
        for frame in answers
    ]


def test_an_object_in_constant_motion_is_one_track_from_its_first_frame() -> None:
    frames = film(30, moving(0, 50, 7, 3))
    answers = linked(frames)
    assert ids(answers) == [1] * 30
    assert [[found for found, _ in frame] for frame in answers] == frames


def test_a_video_of_one_frame_and_one_of_none() -> None:
    assert linked(film(1, moving(0, 0, 1))) == [[(film(1, moving(0, 0, 1))[0][0], 1)]]
    assert linked([]) == []
    assert linked([[], [], []]) == [[], [], []]


def test_objects_that_cross_keep_their_identities() -> None:
    answers = linked(film(60, moving(0, 100, 10), moving(600, 130, -10)))
    assert (ids(answers, "0"), ids(answers, "1")) == ([1] * 60, [2] * 60)


@pytest.mark.parametrize("gap", [1, 10, 25])
def test_an_object_that_is_hidden_for_less_than_a_second_keeps_its_identity(gap: int) -> None:
    frames = film(80, moving(0, 50, 6))
    frames[30 : 30 + gap] = [[] for _ in range(gap)]
    answers = linked(frames)
    assert ids(answers) == [1] * 30 + [None] * gap + [1] * (50 - gap)


def test_an_object_that_is_hidden_for_longer_is_a_new_one() -> None:
    frames = film(120, moving(0, 50, 0))
    frames[30:70] = [[] for _ in range(40)]
    assert ids(linked(frames)) == [1] * 30 + [None] * 40 + [2] * 50


def test_a_spell_of_low_scores_is_bridged_by_what_was_found() -> None:
    frames = film(40, moving(0, 50, 5))
    for index in range(10, 25):
        frames[index] = [Detected("0", 0.15, frames[index][0].box)]
    answers = linked(frames)
    assert ids(answers) == [1] * 40
    assert [found.score for found, _ in answers[12]] == [0.15]


def test_low_scores_begin_no_track() -> None:
    assert linked(film(20, moving(0, 50, 5), score=0.45)) == [[]] * 20
    assert ids(linked(film(20, moving(0, 50, 5), score=THRESHOLD))) == [1] * 20


def test_an_object_that_enters_late_is_numbered_when_it_does() -> None:
    # It is the leftmost, which counts only within a frame.
    frames = film(40, moving(300, 50, 5), moving(500, 50, 5), moving(0, 50, 5, start=15))
    answers = linked(frames)
    assert ids(answers, "2") == [None] * 15 + [3] * 25
    assert (ids(answers, "0"), ids(answers, "1")) == ([1] * 40, [2] * 40)


def test_what_is_found_only_once_has_an_identity_of_its_own() -> None:
    frames = film(6, moving(0, 50, 5))
    frames[2].append(Detected("flash", 0.9, Box(400, 400, 440, 440)))
    frames[4].append(Detected("flash", 0.9, Box(700, 400, 740, 440)))
    answers = linked(frames)
    assert ids(answers) == [1] * 6
    assert ids(answers, "flash") == [None, None, 2, None, 3, None]


@pytest.mark.parametrize(
    ("lengths", "rate", "tracks"),
    [(0.5, 30, 1), (0.75, 30, 1), (0.75, 2, 1), (1.1, 2, 1), (1.1, 30, 20), (1.5, 2, 20)],
)
def test_how_fast_an_object_may_move_between_two_frames(
    lengths: float, rate: float, tracks: int
) -> None:
    answers = linked(film(20, moving(0, 50, lengths * 60)), rate)
    assert len({*ids(answers)}) == tracks
    # Lost or not, what was found is kept.
    assert all(len(frame) == 1 for frame in answers)


def test_what_speeds_up_is_followed_far_beyond_its_own_length() -> None:
    def at(index: int) -> Box:
        left = 0.5 * 4 * index**2
        return Box(left, 0, left + 60, 60)

    assert at(40).xmin - at(39).xmin > 2.5 * 60
    assert ids(linked(film(41, at))) == [1] * 41


def test_a_video_sampled_at_two_frames_a_second() -> None:
    frames = film(30, moving(0, 100, 40), moving(1500, 160, -30), moving(800, 600, 15, -10))
    frames[12] = frames[12][1:]
    answers = linked(frames, rate=2.0)
    assert {*ids(answers, "0")} == {1, None}
    assert ids(answers, "0").count(None) == 1
    assert (ids(answers, "1"), ids(answers, "2")) == ([3] * 30, [2] * 30)
    # At least three frames may be missed, though that is more than a second.
    frames = film(20, moving(0, 100, 20))
    frames[8:11] = [[], [], []]
    assert {*ids(linked(frames, rate=1.0))} == {1, None}


def noisy(seed: int, count: int = 150) -> list[Frame]:
    """Six objects with noise, misses, low scores and false detections."""
    chance = random.Random(seed)
    motions = [
        moving(chance.uniform(0, 800), 170.0 * number, chance.uniform(-6, 6), 0, 70)
        for number in range(6)
    ]
    frames = []
    for frame in film(count, *motions):
        seen = []
        for each in frame:
            if chance.random() < 0.05:
                continue
            box = Box(*(corner + chance.gauss(0, 2) for corner in each.box))
            score = 0.2 if chance.random() < 0.1 else chance.uniform(0.5, 0.9)
            seen.append(Detected(each.label, score, box))
        if chance.random() < 0.2:
            left = chance.uniform(0, 900)
            seen.append(Detected("false", 0.3, Box(left, 1100, left + 40, 1140)))
        chance.shuffle(seen)
        frames.append(seen)
    return frames


@pytest.mark.parametrize("seed", range(4))
def test_noise_misses_and_low_scores_do_not_change_identities(seed: int) -> None:
    answers = linked(noisy(seed))
    owners = [{*ids(answers, str(number))} - {None} for number in range(6)]
    assert sorted(len(each) for each in owners) == [1] * 6
    assert len(set.union(*owners)) == 6
    assert {*ids(answers, "false")} == {None}


def test_linkers_know_nothing_of_each_other() -> None:
    first, second = noisy(1), noisy(2)
    alone = linked(first), linked(second)
    linkers = Linker(THRESHOLD, 30.0), Linker(THRESHOLD, 30.0)
    for index in range(len(first)):
        for linker, frames, expected in zip(linkers, (first, second), alone, strict=True):
            answer = linker.push(frames[index])
            assert answer == (expected[index - 1] if index else None)


# Few places, so that detections overlap, coincide and come back.
detections = st.builds(
    lambda label, score, x, y, width, height: Detected(
        label, score, Box(x * 10, y * 10, x * 10 + width, y * 10 + height)
    ),
    st.sampled_from("ab"),
    st.sampled_from([0.1, 0.3, 0.5, 0.7, None]),
    st.integers(0, 6),
    st.integers(0, 3),
    st.sampled_from([10.0, 25.0]),
    st.sampled_from([10.0, 25.0]),
)
films = st.lists(st.lists(detections, max_size=5), max_size=10)
examples = settings(deadline=None, max_examples=60)


def is_strong(found: Detected) -> bool:
    return found.score is None or found.score >= THRESHOLD


@examples
@given(films, st.sampled_from([2.0, 30.0]))
def test_what_is_kept_and_how_it_is_numbered(frames: list[Frame], rate: float) -> None:
    answers = linked(frames, rate)
    assert len(answers) == len(frames)
    seen = 0
    sizes: dict[int, int] = {}
    for frame, answer in zip(frames, answers, strict=True):
        kept = [found for found, _ in answer]
        for each in {*frame}:
            assert kept.count(each) <= frame.count(each)
            if is_strong(each):
                assert kept.count(each) == frame.count(each)
        assert {*kept} <= {*frame}
        assert [found.box for found in kept] == sorted(found.box for found in kept)
        tracks = [track_id for _, track_id in answer]
        assert len({*tracks}) == len(tracks)
        fresh = [track_id for track_id in tracks if track_id > seen]
        assert fresh == [*range(seen + 1, seen + 1 + len(fresh))]
        seen += len(fresh)
        for found, track_id in answer:
            assert track_id in sizes or is_strong(found)
            sizes[track_id] = sizes.get(track_id, 0) + 1


@examples
@given(films, st.randoms(use_true_random=False))
def test_the_order_in_a_frame_does_not_matter(frames: list[Frame], chance: random.Random) -> None:
    assert linked([chance.sample(frame, len(frame)) for frame in frames]) == linked(frames)


@examples
@given(films)
def test_tracks_are_those_of_the_library_with_their_first_detection(frames: list[Frame]) -> None:
    """The library itself, asked from outside: it says -1 until a track's second detection."""
    from supervision import Detections
    from trackers import ByteTrackTracker

    ordered = [[found for found, _ in frame] for frame in linked(frames)]
    answers = linked(ordered)
    library = ByteTrackTracker(
        lost_track_buffer=30,
        frame_rate=30.0,
        track_activation_threshold=THRESHOLD,
        high_conf_det_threshold=THRESHOLD,
        minimum_iou_threshold=0.1,
    )
    names: dict[int, int] = {}
    begun: dict[int, int] = {}
    for index, (frame, answer) in enumerate(zip(ordered, answers, strict=True)):
        scores = [1.0 if each.score is None else each.score for each in frame]
        said = library.update(
            Detections(
                xyxy=np.array([each.box for each in frame], dtype=float).reshape(-1, 4),
                confidence=np.array(scores, dtype=float),
                data={"place": np.arange(len(frame))},
            )
        )
        assert said.tracker_id is not None
        named = dict(zip(said.data.get("place", []), said.tracker_id, strict=True))
        ours = iter(answer)
        for place, found in enumerate(frame):
            name = int(named[place])
            if name < 0 and not is_strong(found):
                continue
            kept, track_id = next(ours)
            assert kept == found
            if name >= 0:
                assert names.setdefault(name, track_id) == track_id
                # Its first detection is in the frame before that in which the library names it.
                assert begun[track_id] < index
            else:
                assert track_id not in begun
            begun.setdefault(track_id, index)
        assert next(ours, None) is None
    assert len({*names.values()}) == len(names)


@examples
@given(st.lists(detections, max_size=12), st.randoms())
def test_of_several_guesses_at_one_thing_the_best_stays(
    frame: Frame, chance: random.Random
) -> None:
    kept = distinct(frame)
    strengths = [1.0 if each.score is None else each.score for each in kept]
    assert strengths == sorted(strengths, reverse=True)
    for number, each in enumerate(kept):
        assert all(iou(each.box, other.box) < 0.8 for other in kept[:number])
    for each in frame:
        strength = 1.0 if each.score is None else each.score
        assert each in kept or any(
            iou(each.box, other.box) >= 0.8 and (other.score is None or other.score >= strength)
            for other in kept
        )
    shuffled = [*frame]
    chance.shuffle(shuffled)
    assert distinct(shuffled) == kept


def test_a_thing_with_two_names_is_one_track() -> None:
    """As a detector saw a cat that it took for a dog as well, each now and then more likely."""
    chance = random.Random(3)
    place = moving(20, 20, 3, 1)
    frames = []
    for index in range(20):
        box = place(index)
        assert box is not None
        near = Box(box.xmin - 1, box.ymin, box.xmax, box.ymax + 1)
        scores = chance.sample([0.75, 0.55], 2)
        frames.append([Detected("cat", scores[0], box), Detected("dog", scores[1], near)])
    assert {len(answer) for answer in linked(frames)} == {2}
    answers = linked([distinct(frame) for frame in frames])
    assert [track_id for answer in answers for _, track_id in answer] == [1] * 20


def test_given_identities_are_kept_as_they_are() -> None:
    frames = [
        [Detected("a", 0.05, Box(5, 0, 9, 9), 7), Detected("b", None, Box(0, 0, 9, 9), 0)],
        [],
        [Detected("a", 0.9, Box(500, 0, 509, 9), 7)],
    ]
    answers = linked(frames, to=GivenTracks())
    assert [[track_id for _, track_id in frame] for frame in answers] == [[0, 7], [], [7]]
    assert [[found for found, _ in frame] for frame in answers] == [
        sorted(frame, key=lambda found: found.box) for frame in frames
    ]
    with pytest.raises(ValueError, match="'a' has no track_id"):
        GivenTracks().push([Detected("a", 0.9, Box(0, 0, 1, 1))])


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="frame rate"):
        Linker(THRESHOLD, rate)


def test_a_library_that_cannot_be_loaded_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(ModelError, match="libGL") as caught:
        Linker(THRESHOLD, 30.0)
    assert "\n" not in str(caught.value)


def test_boxes_that_reach_out_of_all_numbers_do_no_harm() -> None:
    far = Detected("far", 0.9, Box(-1e308, -1e308, 1e308, 1e308))
    frames = [[*frame, far] for frame in film(5, moving(0, 50, 5))]
    assert ids(linked(frames)) == [2] * 5
    assert ids(linked(frames), "far") == [1] * 5


def at(track_id: int, *corners: float, label: str = "a", score: float | None = 0.5) -> Linked:
    return Linked(Detected(label, score, Box(*corners)), track_id)


def test_between_two_frames_boxes_are_on_straight_ways() -> None:
    before = [at(1, 0, 0, 10, 10, score=0.9), at(2, 5, 5, 9, 9), at(4, 0, 0, 1, 1, score=None)]
    after = [at(4, 4, 0, 5, 1, score=0.7), at(3, 0, 0, 1, 1), at(1, 40, 20, 60, 50, label="b")]
    assert between(before, after, 0.25) == [
        at(1, 10, 5, 22.5, 20, score=0.5),
        at(4, 1, 0, 2, 1, score=0.7),
    ]
    assert between([at(1, 0, 0, 1, 1, score=None)], [at(1, 0, 0, 1, 1, score=None)], 0.5) == [
        at(1, 0, 0, 1, 1, score=None)
    ]
    assert between(before, [], 0.5) == between([], after, 0.5) == []


corners = st.lists(st.floats(0, 2000), min_size=4, max_size=4, unique=True).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
)


@given(corners, corners, st.floats(0, 1))
def test_between_begins_and_ends_at_its_frames(
    first: Sequence[float], last: Sequence[float], part: float
) -> None:
    before, after = [at(1, *first)], [at(1, *last)]
    assert between(before, after, 0.0) == before
    assert between(before, after, 1.0) == after
    there = between(before, after, part)[0].found.box
    assert not there.is_empty
    # The other way round it is the same place.
    back = between(after, before, 1 - part)[0].found.box
    assert there == pytest.approx(back, abs=1e-6)


def test_a_moving_object_is_where_it_is_interpolated() -> None:
    answers = linked(film(31, moving(3, 4, 8, 2)))
    for start in range(0, 30, 5):
        for step in range(1, 5):
            expected = answers[start + step][0].found.box
            there = between(answers[start], answers[start + 5], step / 5)
            assert there[0].found.box == pytest.approx(expected)


def test_a_track_has_the_label_with_the_highest_sum_of_scores() -> None:
    frames = [
        [at(1, 0, 0, 1, 1, label="car", score=0.6), at(2, 0, 0, 1, 1, label="dog")],
        [at(1, 0, 0, 1, 1, label="car", score=0.5)],
        [at(1, 0, 0, 1, 1, label="truck", score=None), at(2, 0, 0, 1, 1, label="cat")],
    ]
    assert label_of_tracks(iter(frames)) == {1: "car", 2: "cat"}
    assert label_of_tracks([]) == {}


def mask(*blocks: tuple[int, int, int, int]) -> rle.CompressedRLEData:
    pixels = np.zeros((120, 200), dtype=bool)
    for xmin, ymin, xmax, ymax in blocks:
        pixels[ymin:ymax, xmin:xmax] = True
    return rle.encode(pixels)


def found(*corners: float, score: float | None = 0.5, label: str = "a") -> Detected:
    return Detected(label, score, Box(*corners))


def test_what_is_followed_already_is_not_new() -> None:
    known = {3: mask((20, 20, 80, 100)), 5: mask()}
    same = found(25, 22, 84, 95)
    part = found(30, 30, 50, 50)
    over_the_edge = found(60, 20, 100, 40)
    elsewhere = found(120, 20, 160, 60)
    assert match_new([same, part, over_the_edge, elsewhere], known) == [over_the_edge, elsewhere]
    assert match_new([same], {}) == match_new([same], {5: mask()}) == [same]
    assert match_new([], known) == []


def test_what_stands_before_an_object_is_new() -> None:
    # A table with a cup on it: the cup's place is not in the table's mask.
    table = mask((0, 40, 200, 60), (0, 60, 90, 120), (110, 60, 200, 120))
    cup = found(90, 60, 110, 100)
    assert match_new([cup], {1: table}) == [cup]


def test_two_detections_of_one_thing_are_one_new_object() -> None:
    weak, strong = found(10, 10, 50, 50, label="car"), found(12, 10, 52, 50, score=0.9)
    unsure = found(100, 10, 140, 50, score=None)
    assert match_new([weak, unsure, strong], {}) == [unsure, strong]


Corners = tuple[int, int, int, int]
low, high = st.integers(0, 30), st.integers(31, 60)
whole = st.tuples(low, low, high, high)


@examples
@given(whole, st.lists(whole, max_size=3))
def test_the_rules_of_the_new_in_pixels(box: Corners, blocks: list[Corners]) -> None:
    masks = {number: mask(block) for number, block in enumerate(blocks)}
    region = rle.decode(mask(box))
    overlaps, parts = [], []
    for each in masks.values():
        other = rle.decode(each)
        overlaps.append((region & other).sum() / (region | other).sum())
        parts.append((region & other).sum() / region.sum())
    detection = found(*map(float, box))
    is_new = max(overlaps, default=0) < 0.5 and max(parts, default=0) < 0.8
    assert match_new([detection], masks) == ([detection] if is_new else [])
    for (xmin, ymin, xmax, ymax), expected in zip(blocks, overlaps, strict=True):
        assert iou(Box(xmin, ymin, xmax, ymax), detection.box) == pytest.approx(expected)


def test_the_new_are_not_of_each_other() -> None:
    chance = random.Random(5)
    many = []
    for _ in range(60):
        left, top = chance.uniform(0, 150), chance.uniform(0, 80)
        corners = (left, top, left + chance.uniform(5, 50), top + chance.uniform(5, 40))
        many.append(found(*corners, score=chance.random()))
    new = match_new(many, {})
    assert 1 < len(new) < 60
    scores = [each.score or 0.0 for each in new]
    assert all(before >= after for before, after in pairwise(scores))
    for number, each in enumerate(new):
        assert all(iou(each.box, other.box) < 0.5 for other in new[:number])
    for each in many:
        if each not in new:
            assert any(
                iou(each.box, other.box) >= 0.5 and (other.score or 0) >= (each.score or 0)
                for other in new
            )
