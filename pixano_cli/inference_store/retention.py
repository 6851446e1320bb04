"""Running retention policies: what is older than their ages goes, batch by batch.

A batch and its count are one transaction, so that a task shows what is done at any moment, and
a kill leaves none of it half done. There is no daemon: whoever opens a store runs what is due.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    cast,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.blob_ledger import LONGEST_WRITE_S, collect, count_known, discard
from pixano_cli.inference_store.blobs import BlobStorage
from pixano_cli.inference_store.connection import blobs_of
from pixano_cli.inference_store.database import Store, now
from pixano_cli.inference_store.models import DeleteAction
from pixano_cli.inference_store.models import RetentionTaskState as State
from pixano_cli.inference_store.removal import BATCH, clear_inputs, hide, remove
from pixano_cli.inference_store.task_owner import is_abandoned, this_process

HOUR_US = 3_600_000_000
PAGE = 10_000
UNFINISHED = (State.PENDING.value, State.SCHEDULED.value, State.RUNNING.value)

logger = logging.getLogger(__name__)

_Removal = Callable[[Connection, Sequence[int]], list[str]]
_table = schema.inferences
_visible = _table.c.deleted_at.is_(None)
_hidden = _table.c.deleted_at.is_not(None)
_tasks = schema.retention_tasks
_policies = schema.retention_policies


@dataclass(frozen=True, slots=True)
class Job:
    """A task to run.

    Attributes:
        task_id: Its id.
        policy_id: The policy, as it was when the task was created.
        model_id: The model it is about.
        is_hard: Whether records are removed for good, or hidden.
        dry_run: Whether to count only.
        record_limit: Records created before it go, in microseconds since 1970.
        blob_limit: Inputs of records created before it go.
    """

    task_id: str
    policy_id: str
    model_id: str
    is_hard: bool
    dry_run: bool
    record_limit: int
    blob_limit: int


class _StoppedError(Exception):
    """The policy is the model's no more."""


def begin(connection: Connection, policy: Row[Any], state: State, *, dry_run: bool = False) -> Job:
    """Note a task that is to run a policy, with the limits that follow from its ages now.

    Args:
        connection: In a writing transaction.
        policy: A row of the policies' table.
        state: PENDING, or SCHEDULED where nobody asked for it.
        dry_run: Whether to count only; a policy's last run is none of those.
    """
    time = now()
    record_age = policy.maximum_record_age
    job = Job(
        task_id=str(uuid4()),
        policy_id=policy.id,
        model_id=policy.model_id,
        is_hard=policy.delete_action == DeleteAction.HARD.value,
        dry_run=dry_run,
        record_limit=0 if record_age < 0 else _limit(time, record_age),
        blob_limit=_limit(time, policy.maximum_blob_age),
    )
    connection.execute(
        insert(_tasks),
        {
            "id": job.task_id,
            "retention_policy_id": job.policy_id,
            "model_id": job.model_id,
            "state": state.value,
            "dry_run": dry_run,
            "deleted_record_count": 0,
            "deleted_blob_count": 0,
            "total_record_count": 0,
            "total_blob_count": 0,
            "maximum_record_age_limit": job.record_limit,
            "maximum_blob_age_limit": job.blob_limit,
            "created_at": time,
            "owner": this_process(),
        },
    )
    if not dry_run:
        connection.execute(
            update(_policies).where(_policies.c.id == policy.id).values(last_scheduled_at=time)
        )
    return job


def run(store: Store, blobs: BlobStorage, job: Job) -> None:
    """Run a task to its end, which its state tells.

    Raises:
        StoreError: If the database or the storage of blobs fails; what is done stays done.
    """
    try:
        _count(store, job)
        if not job.dry_run:
            _remove_old(store, blobs, job)
        _end(store, job, State.COMPLETE)
    except _StoppedError:
        _end(store, job, State.STOPPED)
    except BaseException as error:
        state = State.FAILED if isinstance(error, Exception) else State.STOPPED
        # If this fails as well, the task is found without its process later.
        with suppress(StoreError):
            _end(store, job, state)
        raise


def run_due(store: Store, blobs: BlobStorage) -> list[str]:
    """Run the policies whose interval has passed since they last ran, or since they were created.

    Several processes may do this at once: one of them runs a policy. One that fails is logged,
    and tried again after its interval.

    Returns:
        Ids of the tasks that ran.

    Raises:
        StoreError: If the database fails.
    """
    with store.read() as connection:
        due = connection.execute(_due(_policies.c.id)).scalars().all()
    done = []
    for policy_id in due:
        with store.write() as connection:
            # Another process may have begun it meanwhile.
            policy = connection.execute(_due(_policies).where(_policies.c.id == policy_id)).first()
            if policy is None or _is_running(connection, policy_id):
                continue
            job = begin(connection, policy, State.SCHEDULED)
        try:
            run(store, blobs, job)
        except StoreError as error:
            logger.warning(
                "the retention policy of model %r failed, and runs again in %d h: %s",
                job.model_id,
                policy.automated_interval,
                error,
            )
        done.append(job.task_id)
    return done


def end_abandoned(store: Store) -> int:
    """Note that tasks have failed whose process is gone; return how many.

    Raises:
        StoreError: If the database fails.
    """
    query = select(_tasks.c.id, _tasks.c.owner, _tasks.c.created_at)
    query = query.where(_tasks.c.state.in_(UNFINISHED))
    with store.read() as connection:
        abandoned = [row for row, *begun in connection.execute(query) if is_abandoned(*begun)]
    for start in range(0, len(abandoned), BATCH):
        some = _tasks.c.id.in_(abandoned[start : start + BATCH])
        with store.write() as connection:
            connection.execute(
                update(_tasks)
                .where(some, _tasks.c.state.in_(UNFINISHED))
                .values(state=State.FAILED.value)
            )
    return len(abandoned)


def upkeep(store: Store) -> None:
    """Do what waits for somebody to open the store: what dead processes left, and what is due.

    What fails of it is logged and is no concern of whoever opened the store. Where nothing waits,
    it is a query or two.
    """
    try:
        blobs = blobs_of(store)
    except StoreError as error:
        # Whoever needs the storage is told of it there.
        logger.debug("%s", error)
        return
    works: tuple[Callable[[], object], ...] = (
        partial(end_abandoned, store),
        partial(_end_exports, store, blobs),
        partial(collect, store, blobs),
        partial(run_due, store, blobs),
    )
    for work in works:
        try:
            work()
        except StoreError as error:
            logger.warning("upkeep of the store is left for later: %s", error)


def _end_exports(store: Store, blobs: BlobStorage) -> None:
    table = schema.export_tasks
    is_left = or_(table.c.state != "failed", table.c.storage_key.is_not(None))
    query = select(table.c.id).where(table.c.state != "complete", is_left).limit(1)
    with store.read() as connection:
        if connection.execute(query).first() is None:
            return
    # Imported where there is an export to see to: it takes longer than all the rest of this.
    from pixano_cli.inference_store.export_task import sweep

    sweep(store, blobs)


def _limit(time: int, hours: int) -> int:
    # Nothing is older than 1970.
    return max(0, time - hours * HOUR_US)


def _due(*what: Any) -> Select[Any]:
    last = func.coalesce(_policies.c.last_scheduled_at, _policies.c.created_at)
    interval = cast(_policies.c.automated_interval, BigInteger)
    return select(*what).where(interval > 0, last + interval * HOUR_US <= now())


def _is_running(connection: Connection, policy_id: str) -> bool:
    query = select(_tasks.c.owner, _tasks.c.created_at).where(
        _tasks.c.retention_policy_id == policy_id,
        _tasks.c.state.in_(UNFINISHED),
        ~_tasks.c.dry_run,
    )
    return any(not is_abandoned(*begun) for begun in connection.execute(query))


def _old(job: Job, limit: int) -> ColumnElement[bool]:
    return and_(
        _table.c.model_id == job.model_id, _table.c.created_at < limit, ~_table.c.is_protected
    )


def _count(store: Store, job: Job) -> None:
    """Note how much is to be removed: of the inputs those that no other record names."""
    blobs = schema.blobs
    other = _table.alias()
    stays = or_(
        other.c.model_id != job.model_id,
        other.c.created_at >= job.blob_limit,
        other.c.is_protected,
    )
    is_named = select(other.c.id).where(other.c.data_storage_key == blobs.c.storage_key, stays)
    with store.read() as connection:
        records = connection.execute(
            select(func.count()).where(_old(job, job.record_limit), _visible)
        ).scalar_one()
        inputs = connection.execute(
            select(func.count(blobs.c.storage_key.distinct()))
            .join(_table, _table.c.data_storage_key == blobs.c.storage_key)
            .where(_old(job, job.blob_limit), _visible)
            .where(blobs.c.pending_since.is_(None), ~is_named.exists())
        ).scalar_one()
    with store.write() as connection:
        _note(
            connection,
            job,
            state=State.RUNNING.value,
            total_record_count=records,
            total_blob_count=inputs,
        )


def _remove_old(store: Store, blobs: BlobStorage, job: Job) -> None:
    records = _old(job, job.record_limit)
    inputs = and_(_old(job, job.blob_limit), _table.c.data_storage_key.is_not(None))
    act = remove if job.is_hard else hide
    _in_batches(store, blobs, job, and_(records, _visible), act, counted=True)
    if job.is_hard:
        # Those that an earlier run has hidden were counted by it.
        _in_batches(store, blobs, job, and_(records, _hidden), remove, counted=False)
    _in_batches(store, blobs, job, and_(inputs, _visible), clear_inputs, counted=False)


def _in_batches(
    store: Store,
    blobs: BlobStorage,
    job: Job,
    condition: ColumnElement[bool],
    act: _Removal,
    *,
    counted: bool,
) -> None:
    """Remove what the condition holds for; what is chosen without the lock is asked again in it."""
    place = tuple_(_table.c.created_at, _table.c.inference_id)
    query = select(_table.c.id, _table.c.created_at, _table.c.inference_id)
    query = query.order_by(_table.c.created_at, _table.c.inference_id).limit(PAGE)
    last = (-1, "")
    while True:
        with store.read() as connection:
            page = connection.execute(query.where(condition, place > last)).all()
        if not page:
            return
        last = (page[-1].created_at, page[-1].inference_id)
        rows: Sequence[int] = [row.id for row in page]
        while rows:
            rows = _remove_some(store, blobs, job, condition, act, rows, counted=counted)


def _remove_some(
    store: Store,
    blobs: BlobStorage,
    job: Job,
    condition: ColumnElement[bool],
    act: _Removal,
    rows: Sequence[int],
    *,
    counted: bool,
) -> Sequence[int]:
    """Remove as many of these as one transaction may, with their inputs; return those left."""
    policy = select(_policies.c.id).where(_policies.c.id == job.policy_id)
    doomed: list[str] = []
    count = 0
    with store.write() as connection:
        until = monotonic() + LONGEST_WRITE_S
        if connection.execute(policy).first() is None:
            raise _StoppedError
        while rows:
            some = select(_table.c.id).where(_table.c.id.in_(rows[:BATCH]), condition)
            going = connection.execute(some).scalars().all()
            doomed += act(connection, going)
            count += len(going)
            rows = rows[BATCH:]
            if monotonic() >= until:
                break
        if counted:
            done = _tasks.c.deleted_record_count + count
            _note(connection, job, deleted_record_count=done)
    if doomed:
        discard(store, blobs, doomed)
        with store.write() as connection:
            # Whoever opened the store meanwhile may have been the one to remove some.
            gone = len(doomed) - count_known(connection, doomed)
            done = _tasks.c.deleted_blob_count + gone
            _note(connection, job, deleted_blob_count=done)
    return rows


def _end(store: Store, job: Job, state: State) -> None:
    with store.write() as connection:
        _note(connection, job, state=state.value)


def _note(connection: Connection, job: Job, **values: Any) -> None:
    connection.execute(update(_tasks).where(_tasks.c.id == job.task_id).values(**values))
