"""Models, which are registered before their inferences are stored."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import schema, values
from pixano_cli.inference_store.arguments import checked
from pixano_cli.inference_store.connection import reading, writing
from pixano_cli.inference_store.database import now
from pixano_cli.inference_store.models import Model, NewRegisterModelRequest, TaskType
from pixano_cli.inference_store.times import from_microseconds

LARGEST_EMBEDDING = 2**31 - 1


@checked
def register_model_for_inference_storage(request_body: NewRegisterModelRequest) -> str | None:
    """Register a model. The same registration again changes nothing.

    Returns:
        The model's id.

    Raises:
        StoreError: If the model is registered with another task type or embedding size.
    """
    with writing() as connection:
        return put_model(connection, request_body)


@checked
def get_registered_model(model_id: str) -> Model | None:
    """Return what is known of a registered model; None if it is not registered.

    Raises:
        StoreError: If databases cannot hold such an id.
    """
    models = schema.models
    values.check_text("model_id", model_id)
    with reading() as connection:
        row = connection.execute(select(models).where(models.c.model_id == model_id)).first()
    if row is None:
        return None
    return Model(
        model_id=row.model_id,
        created_at=from_microseconds(row.created_at),
        updated_at=from_microseconds(row.updated_at),
        embedding_size=row.embedding_size,
    )


def registered(connection: Connection, model_id: str) -> Row[Any]:
    """Return the row of a model.

    Raises:
        StoreError: If it is not registered.
    """
    models = schema.models
    model = connection.execute(select(models).where(models.c.model_id == model_id)).first()
    if model is None:
        raise StoreError(
            f"model {model_id!r} is not registered: "
            "register it with register_model_for_inference_storage"
        )
    return model


def registered_size(connection: Connection, model_id: str) -> int | None:
    """Return the embedding size that a model is registered with; None if it is not registered."""
    models = schema.models
    query = select(models.c.embedding_size).where(models.c.model_id == model_id)
    return connection.execute(query).scalar()


def check_task(connection: Connection, model_id: str, task: TaskType) -> None:
    """Check that a model, if it is registered, is so for a task.

    Raises:
        StoreError: If it is for another one.
    """
    models = schema.models
    known = connection.execute(select(models.c.task_type).where(models.c.model_id == model_id))
    registered_for = known.scalar()
    if registered_for not in (None, task.value):
        raise StoreError(
            f"model {model_id!r} is registered for {registered_for} in this store, which holds a "
            f"model for one task: use another --store for {task.value}"
        )


def put_model(connection: Connection, request: NewRegisterModelRequest) -> str:
    """Register a model on a connection in a writing transaction; a project's new name is kept.

    Raises:
        StoreError: If the model is registered with another task type or embedding size.
    """
    models = schema.models
    task = TaskType(request.task_type).value
    values.check_name("model_id", request.model_id)
    values.check_text("project_id", request.project_id)
    if not 0 <= request.embedding_size <= LARGEST_EMBEDDING:
        raise StoreError(
            f"model {request.model_id!r}: embedding size {request.embedding_size} is not in "
            f"0..{LARGEST_EMBEDDING}"
        )
    same = models.c.model_id == request.model_id
    row = connection.execute(select(models).where(same)).first()
    if row is None:
        time = now()
        connection.execute(
            insert(models),
            {
                "model_id": request.model_id,
                "project_id": request.project_id,
                "task_type": task,
                "embedding_size": request.embedding_size,
                "created_at": time,
                "updated_at": time,
            },
        )
    elif (row.task_type, row.embedding_size) != (task, request.embedding_size):
        raise StoreError(
            f"model {request.model_id!r} is registered for {row.task_type} with embedding size "
            f"{row.embedding_size}, not for {task} with {request.embedding_size}: "
            "use another model_id"
        )
    elif row.project_id != request.project_id:
        connection.execute(
            update(models).where(same).values(project_id=request.project_id, updated_at=now())
        )
    return request.model_id
