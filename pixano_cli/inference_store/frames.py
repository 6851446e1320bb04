"""What is recorded of a video's frames, and how far the work on a video is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, delete, func, or_, select, update

from pixano_cli.inference_store import schema
from pixano_cli.inference_store.database import Store, now
from pixano_cli.inference_store.records import conflict_insert

PAGE = 200


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """What is recorded of one frame for one request.

    Attributes:
        index: Index of the frame in the source, from 0.
        timestamp_s: Its time in seconds.
        file_name: Its own file's name in the folder that is the video; None for other videos.
        elements: The elements of all its records, the latest last.
    """

    index: int
    timestamp_s: float
    file_name: str | None
    elements: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far the work on a video is.

    Attributes:
        frames: How many frames are recorded.
        next_frame: The first frame of the source that may not be.
        is_complete: Whether all are.
        state: What the model needs to go on from `next_frame`; None if it needs nothing.
    """

    frames: int
    next_frame: int
    is_complete: bool = False
    state: bytes | None = None


def recorded_frames(
    store: Store, request_key: str, sha256: str, first: int = 0
) -> Iterator[RecordedFrame]:
    """Yield the frames of a video that have an answer to the request, in order, from `first` on.

    No statement stays open while a frame is with the caller.
    """
    frames, inferences = schema.frames, schema.inferences
    query = (
        select(frames.c.frame_index, frames.c.timestamp_s, frames.c.file_name, inferences.c.data)
        .join(inferences, inferences.c.id == frames.c.inference)
        .where(
            frames.c.data_hash == sha256,
            frames.c.request_key == request_key,
            inferences.c.deleted_at.is_(None),
        )
        .order_by(frames.c.frame_index, frames.c.inference)
    )
    last = first - 1
    while True:
        # By whole frames, for one may have several records.
        until = _end_of_page(store, request_key, sha256, last)
        if until is None:
            return
        page = query.where(frames.c.frame_index > last, frames.c.frame_index <= until)
        found: dict[int, tuple[float, str | None, list[Mapping[str, Any]]]] = {}
        with store.read() as connection:
            for index, timestamp_s, name, data in connection.execute(page):
                found.setdefault(index, (timestamp_s, name, []))[2].extend(orjson.loads(data))
        for index, (timestamp_s, name, elements) in found.items():
            yield RecordedFrame(index, timestamp_s, name, tuple(elements))
        last = until


def count_frames(store: Store, request_key: str, sha256: str) -> int:
    """Return how many frames of a video have an answer to the request."""
    frames, inferences = schema.frames, schema.inferences
    query = (
        select(func.count(frames.c.frame_index.distinct()))
        .join(inferences, inferences.c.id == frames.c.inference)
        .where(
            frames.c.data_hash == sha256,
            frames.c.request_key == request_key,
            inferences.c.deleted_at.is_(None),
        )
    )
    with store.read() as connection:
        return connection.execute(query).scalar_one()


def linked_frames(store: Store, work_key: str) -> Iterator[RecordedFrame]:
    """Yield the frames of a work with the objects that were linked there, in order."""
    tracks = schema.tracks
    query = (
        select(tracks.c.frame_index, tracks.c.timestamp_s, tracks.c.file_name, tracks.c.objects)
        .where(tracks.c.work_key == work_key)
        .order_by(tracks.c.frame_index)
        .limit(PAGE)
    )
    last = -1
    while True:
        with store.read() as connection:
            rows = connection.execute(query.where(tracks.c.frame_index > last)).all()
        for index, timestamp_s, name, objects in rows:
            yield RecordedFrame(index, timestamp_s, name, tuple(orjson.loads(objects)))
        if len(rows) < PAGE:
            return
        last = rows[-1][0]


def put_linked(
    connection: Connection, work_key: str, linked: Sequence[tuple[RecordedFrame, int]]
) -> None:
    """Record frames with the objects that were linked there, and how many masks these have."""
    if not linked:
        return
    rows = [
        {
            "work_key": work_key,
            "frame_index": frame.index,
            "timestamp_s": frame.timestamp_s,
            "file_name": frame.file_name,
            "masks": masks,
            "objects": orjson.dumps(frame.elements).decode(),
        }
        for frame, masks in linked
    ]
    statement = conflict_insert(connection, schema.tracks)
    changed = {
        name: statement.excluded[name] for name in ("timestamp_s", "file_name", "masks", "objects")
    }
    connection.execute(
        statement.on_conflict_do_update(index_elements=["work_key", "frame_index"], set_=changed),
        rows,
    )


def count_linked(store: Store, work_key: str, request_key: str, sha256: str) -> int:
    """Return how many frames of a work there are with all of their masks.

    It is by number: a frame that lacks one of them may have another work's in its place.

    Args:
        store: The record.
        work_key: The work.
        request_key: What the masks answer.
        sha256: The video's digest.
    """
    tracks, frames, inferences = schema.tracks, schema.frames, schema.inferences
    elements = schema.elements
    masks = (
        select(func.count())
        .select_from(frames)
        .join(inferences, inferences.c.id == frames.c.inference)
        .join(elements, elements.c.inference == inferences.c.id)
        .where(
            frames.c.data_hash == sha256,
            frames.c.request_key == request_key,
            frames.c.frame_index == tracks.c.frame_index,
            inferences.c.deleted_at.is_(None),
        )
        .scalar_subquery()
    )
    query = (
        select(func.count())
        .select_from(tracks)
        .where(tracks.c.work_key == work_key, or_(tracks.c.masks == 0, masks >= tracks.c.masks))
    )
    with store.read() as connection:
        return connection.execute(query).scalar_one()


def get_checkpoint(store: Store, work_key: str) -> Checkpoint | None:
    """Return how far a work is; None if it was not begun."""
    table = schema.checkpoints
    query = select(table.c.frames, table.c.next_frame, table.c.is_complete, table.c.state)
    with store.read() as connection:
        row = connection.execute(query.where(table.c.work_key == work_key)).first()
    return None if row is None else Checkpoint(*row)


def put_checkpoint(connection: Connection, work_key: str, checkpoint: Checkpoint) -> None:
    """Say how far a work is, in place of what was said before."""
    table = schema.checkpoints
    row = {
        "work_key": work_key,
        "frames": checkpoint.frames,
        "next_frame": checkpoint.next_frame,
        "is_complete": checkpoint.is_complete,
        "state": checkpoint.state,
        "updated_at": now(),
    }
    statement = conflict_insert(connection, table)
    changed = {name: statement.excluded[name] for name in row if name != "work_key"}
    connection.execute(
        statement.on_conflict_do_update(index_elements=["work_key"], set_=changed), row
    )


def reopen(connection: Connection, work_key: str) -> None:
    """Say that a work is not complete: what it needs was removed."""
    table = schema.checkpoints
    connection.execute(
        update(table).where(table.c.work_key == work_key).values(is_complete=False, state=None)
    )


def forget_work(
    connection: Connection, work_key: str, request_keys: Sequence[str], sha256: str
) -> None:
    """Remove all that is recorded of a work, with the answers to the requests about its video."""
    for table in (schema.tracks, schema.checkpoints):
        connection.execute(delete(table).where(table.c.work_key == work_key))
    frames, inferences = schema.frames, schema.inferences
    answers = select(frames.c.inference).where(
        frames.c.data_hash == sha256, frames.c.request_key.in_(request_keys)
    )
    connection.execute(delete(inferences).where(inferences.c.id.in_(answers)))


def _end_of_page(store: Store, request_key: str, sha256: str, last: int) -> int | None:
    frames = schema.frames
    query = (
        select(frames.c.frame_index)
        .where(
            frames.c.data_hash == sha256,
            frames.c.request_key == request_key,
            frames.c.frame_index > last,
        )
        .order_by(frames.c.frame_index)
        .limit(PAGE)
    )
    with store.read() as connection:
        found = connection.execute(query).scalars().all()
    return found[-1] if found else None
