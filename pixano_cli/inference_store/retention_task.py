"""Retention tasks: a policy run once, or counted; what was run is kept and can be looked up."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import schema, values
from pixano_cli.inference_store.arguments import checked
from pixano_cli.inference_store.connection import blobs_of, current_store, reading, writing
from pixano_cli.inference_store.filters import in_window
from pixano_cli.inference_store.models import (
    NewGetRetentionTasksRequest,
    NewRetentionTaskRequest,
    PaginationSortField,
    RetentionTask,
    RetentionTaskState,
)
from pixano_cli.inference_store.pagination import read_page
from pixano_cli.inference_store.retention import begin, end_abandoned, run
from pixano_cli.inference_store.times import from_microseconds

_table = schema.retention_tasks


@checked
def create_retention_task(
    model_id: str, request_body: NewRetentionTaskRequest
) -> RetentionTask | None:
    """Run a model's retention policy now, to the end, or only count what it would remove.

    Every policy can be run so, an automated one too, which is then due an interval later. What is
    strictly older than the policy's ages is removed; protected records are left out, and so is an
    input that another record names which stays.

    Returns:
        The finished task.

    Raises:
        StoreError: If the model has no such policy, or the database or the storage of inputs
            fails; what was removed stays removed.
    """
    policies = schema.retention_policies
    store = current_store()
    blobs = blobs_of(store)
    policy_id = values.check_text("retention_policy_id", request_body.retention_policy_id)
    query = select(policies).where(policies.c.model_id == model_id, policies.c.id == policy_id)
    with writing(store) as connection:
        policy = connection.execute(query).first()
        if policy is None:
            raise StoreError(
                f"model {model_id!r} has no retention policy {policy_id!r}: "
                "get_retention_policy tells the one it has"
            )
        job = begin(connection, policy, RetentionTaskState.PENDING, dry_run=request_body.dry_run)
    run(store, blobs, job)
    with store.read() as connection:
        return _task(connection.execute(select(_table).where(_table.c.id == job.task_id)).one())


@checked
def get_retention_task(model_id: str, retention_task_id: str) -> RetentionTask | None:
    """Return a task as it stands; None if there is none of this model with this id.

    One whose process is gone before its end has failed.
    """
    end_abandoned(current_store())
    query = select(_table).where(_table.c.model_id == model_id, _table.c.id == retention_task_id)
    with reading() as connection:
        row = connection.execute(query).first()
    return None if row is None else _task(row)


@checked
def filter_retention_tasks(
    model_id: str, request_body: NewGetRetentionTasksRequest
) -> list[RetentionTask]:
    """Return a page of a model's tasks, by when they were created, ties by id.

    Raises:
        StoreError: If a time or the pagination is not valid; tasks have nothing to sort by but
            created_at.
    """
    asked = request_body
    query = select(_table).where(_table.c.model_id == model_id)
    if asked.retention_policy_id is not None:
        policy_id = values.check_text("retention_policy_id", asked.retention_policy_id)
        query = query.where(_table.c.retention_policy_id == policy_id)
    if asked.state_filter is not None:
        query = query.where(_table.c.state == RetentionTaskState(asked.state_filter).value)
    if asked.time_window_filter is not None:
        query = query.where(in_window(_table.c.created_at, asked.time_window_filter))
    page = read_page(asked.pagination)
    if page.field != PaginationSortField.CREATED_AT:
        raise StoreError(f"retention tasks cannot be sorted by {page.field}: use created_at")
    time = _table.c.created_at
    query = query.order_by(time.desc() if page.is_descending else time.asc(), _table.c.id)
    query = query.limit(page.limit).offset(page.offset)
    end_abandoned(current_store())
    with reading() as connection:
        return [_task(row) for row in connection.execute(query)]


def _task(row: Row[Any]) -> RetentionTask:
    return RetentionTask(
        id=row.id,
        retention_policy_id=row.retention_policy_id,
        deleted_record_count=row.deleted_record_count,
        deleted_blob_count=row.deleted_blob_count,
        total_record_count=row.total_record_count,
        total_blob_count=row.total_blob_count,
        state=row.state,
        maximum_record_age_limit=from_microseconds(row.maximum_record_age_limit),
        maximum_blob_age_limit=from_microseconds(row.maximum_blob_age_limit),
    )
