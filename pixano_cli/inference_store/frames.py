"""What is recorded of a video's frames, and how far the work on a video is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, delete, func, select

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
        elements: The elements of all its records, the latest last.
    """

    index: int
    timestamp_s: float
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
        select(frames.c.frame_index, frames.c.timestamp_s, inferences.c.data)
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
        found: dict[int, tuple[float, list[Mapping[str, Any]]]] = {}
        with store.read() as connection:
            for index, timestamp_s, data in connection.execute(page):
                found.setdefault(index, (timestamp_s, []))[1].extend(orjson.loads(data))
        for index, (timestamp_s, elements) in found.items():
            yield RecordedFrame(index, timestamp_s, tuple(elements))
        last = until


def count_frames(store: Store, request_key: str, digests: Sequence[str]) -> dict[str, int]:
    """Return how many frames of each video have an answer to the request, of those that have."""
    frames, inferences = schema.frames, schema.inferences
    query = (
        select(frames.c.data_hash, func.count(frames.c.frame_index.distinct()))
        .join(inferences, inferences.c.id == frames.c.inference)
        .where(
            frames.c.data_hash.in_(digests),
            frames.c.request_key == request_key,
            inferences.c.deleted_at.is_(None),
        )
        .group_by(frames.c.data_hash)
    )
    with store.read() as connection:
        return dict(connection.execute(query).tuples().all())


def checkpoints(store: Store, work_keys: Sequence[str]) -> dict[str, Checkpoint]:
    """Return how far each work is, of those that were begun; without the states."""
    table = schema.checkpoints
    query = select(table.c.work_key, table.c.frames, table.c.next_frame, table.c.is_complete).where(
        table.c.work_key.in_(work_keys)
    )
    with store.read() as connection:
        return {row[0]: Checkpoint(*row[1:]) for row in connection.execute(query)}


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


def drop_checkpoint(connection: Connection, work_key: str) -> None:
    """Begin a work from the start next time."""
    connection.execute(delete(schema.checkpoints).where(schema.checkpoints.c.work_key == work_key))


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
