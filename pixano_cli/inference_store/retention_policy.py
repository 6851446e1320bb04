"""Retention policies: how long a model's inferences and their inputs are kept, one a model.

A policy holds from the moment it is created, for what is stored already as for what comes.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from sqlalchemy import Row, delete, insert, select

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.arguments import checked
from pixano_cli.inference_store.connection import reading, writing
from pixano_cli.inference_store.database import now
from pixano_cli.inference_store.models import (
    DeleteAction,
    NewRetentionPolicyRequest,
    RetentionPolicy,
)
from pixano_cli.inference_store.register import registered
from pixano_cli.inference_store.times import from_microseconds

NEVER = -1
"""A maximum record age: records are kept for ever."""

LONGEST = 2**31 - 1
"""Most hours that databases hold: 245,000 years."""

_table = schema.retention_policies


@checked
def create_retention_policy(
    model_id: str, request_body: NewRetentionPolicyRequest
) -> RetentionPolicy | None:
    """Give a model a retention policy, in place of the one it has.

    The same policy again changes nothing. Another one has an id of its own, its first automated
    run is due after a whole interval, and a run of the earlier one that is under way stops.

    Returns:
        The model's policy.

    Raises:
        StoreError: If the model is not registered, or the ages contradict each other.
    """
    _check(request_body)
    wanted = {
        "model_id": model_id,
        "delete_action": DeleteAction(request_body.delete_action).value,
        "maximum_record_age": request_body.maximum_record_age,
        "maximum_blob_age": request_body.maximum_blob_age,
        "automated_interval": request_body.automated_interval,
    }
    query = select(_table).where(_table.c.model_id == model_id)
    with writing() as connection:
        registered(connection, model_id)
        row = connection.execute(query).first()
        if row is None or any(getattr(row, name) != value for name, value in wanted.items()):
            connection.execute(delete(_table).where(_table.c.model_id == model_id))
            connection.execute(insert(_table), {**wanted, "id": str(uuid4()), "created_at": now()})
            row = connection.execute(query).one()
        return _policy(row)


@checked
def delete_retention_policy(model_id: str, retention_policy_id: str) -> str | None:
    """Delete a model's retention policy; a run of it that is under way stops.

    The tasks that ran it are still to be found.

    Returns:
        The policy's id; None if the model has no such policy.
    """
    statement = (
        delete(_table)
        .where(_table.c.model_id == model_id, _table.c.id == retention_policy_id)
        .returning(_table.c.id)
    )
    with writing() as connection:
        return connection.execute(statement).scalar_one_or_none()


@checked
def get_retention_policy(model_id: str) -> RetentionPolicy | None:
    """Return a model's retention policy; None if it has none."""
    with reading() as connection:
        row = connection.execute(select(_table).where(_table.c.model_id == model_id)).first()
    return None if row is None else _policy(row)


def _check(request: NewRetentionPolicyRequest) -> None:
    record, blob = request.maximum_record_age, request.maximum_blob_age
    if record < NEVER or record > LONGEST:
        raise StoreError(
            f"maximum_record_age {record} is no age: give hours from 0 to {LONGEST}, "
            f"or {NEVER} to keep records for ever"
        )
    if not 0 <= blob <= LONGEST:
        raise StoreError(f"maximum_blob_age {blob} is no age: give hours from 0 to {LONGEST}")
    if record != NEVER and blob > record:
        raise StoreError(
            f"maximum_blob_age {blob} is more than maximum_record_age {record}: "
            "an input does not outlive its record"
        )
    if not 0 <= request.automated_interval <= LONGEST:
        raise StoreError(
            f"automated_interval {request.automated_interval} is none: give hours from 1 to "
            f"{LONGEST}, or 0 to run the policy by hand"
        )


def _policy(row: Row[Any]) -> RetentionPolicy:
    last = row.last_scheduled_at
    return RetentionPolicy(
        id=row.id,
        model_id=row.model_id,
        delete_action=row.delete_action,
        maximum_record_age=row.maximum_record_age,
        maximum_blob_age=row.maximum_blob_age,
        automated_interval=row.automated_interval,
        last_scheduled_at=None if last is None else from_microseconds(last),
    )
