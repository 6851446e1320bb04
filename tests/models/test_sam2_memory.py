"""What is kept of a video is what attention may still read: all of it, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_cli.models.sam2.memory import Memory, ObjectMemory, Reach

NOTHING: Any = None


def masks_read(frame: int, reach: Reach) -> set[int]:
    """Say which earlier frames' masks sam2 reads, after its loop over `t_pos`."""
    read = set()
    for t_pos in range(1, reach.masks):
        t_rel = reach.masks - t_pos
        if t_rel == 1:
            read.add(frame - 1)
        else:
            newest = ((frame - 2) // reach.stride) * reach.stride
            read.add(newest - (t_rel - 2) * reach.stride)
    return {each for each in read if each >= 0}


def pointers_read(frame: int, reach: Reach) -> set[int]:
    """Say which earlier frames' pointers sam2 reads, after its loop over `t_diff`."""
    return {frame - t_diff for t_diff in range(1, reach.pointers) if frame - t_diff >= 0}


reaches = st.builds(
    Reach,
    masks=st.integers(1, 9),
    stride=st.integers(1, 5),
    pointers=st.integers(0, 17),
    conditioning=st.sampled_from([-1, 2, 3, 4]),
)


@given(reach=reaches, last=st.integers(0, 90))
def test_what_is_kept_is_what_will_be_read(reach: Reach, last: int) -> None:
    later = range(last + 1, last + 100)
    masks = set().union(*(masks_read(frame, reach) for frame in later))
    pointers = set().union(*(pointers_read(frame, reach) for frame in later))
    for frame in range(last + 1):
        assert reach.reads_features(frame, last) == (frame in masks)
        assert reach.reads_pointer(frame, last) == (frame in pointers)


@given(
    reach=reaches,
    frames=st.lists(st.integers(0, 60), unique=True, min_size=1, max_size=14),
    last=st.integers(0, 60),
)
def test_conditioning_frames_that_are_dropped_change_nothing(
    reach: Reach, frames: list[int], last: int
) -> None:
    choose = pytest.importorskip("sam2.modeling.sam2_utils").select_closest_cond_frames
    whole = {frame: Memory(NOTHING, NOTHING) for frame in frames}
    dropped = reach.out_of_reach(whole, last)
    assert set(dropped) < set(frames)
    left = {frame: memory for frame, memory in whole.items() if frame not in dropped}
    for frame in range(last + 1, 80):
        read, others = choose(frame, whole, reach.conditioning)
        read_of_left, others_of_left = choose(frame, left, reach.conditioning)
        # The order is that in which attention sums.
        assert list(read_of_left) == list(read)
        near = masks_read(frame, reach) | pointers_read(frame, reach)
        assert set(others_of_left) & near == set(others) & near


@given(reach=reaches, count=st.integers(1, 120))
def test_memory_is_bounded(reach: Reach, count: int) -> None:
    feature: Any = object()
    memory = ObjectMemory(conditioning={0: Memory(feature, NOTHING)})
    for frame in range(1, count):
        memory.tracked[frame] = Memory(feature, NOTHING)
        memory.drop(frame, reach)
    kept = [each for each in memory.tracked.values() if each.features is not None]
    assert len(kept) <= reach.masks
    assert len(memory.tracked) <= reach.masks + reach.pointers
    assert list(memory.conditioning) == [0]


@given(
    frames=st.lists(st.integers(0, 500), unique=True, min_size=1, max_size=100),
    most=st.sampled_from([2, 4, 8]),
)
def test_conditioning_frames_are_bounded_where_attention_is(frames: list[int], most: int) -> None:
    reach = Reach(masks=7, stride=1, pointers=16, conditioning=most)
    memory = ObjectMemory(conditioning={frame: Memory(NOTHING, NOTHING) for frame in frames})
    memory.drop(500, reach)
    near = [frame for frame in frames if frame > 484]
    assert len(memory.conditioning) <= most + 1 + len(near)
