"""Runs: what was asked for, when, by which process, and what it came to."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, delete, insert, select, update

from pixano_cli.inference_store import schema
from pixano_cli.inference_store.database import STREAMED, Store, now
from pixano_cli.inference_store.ledger import Order, insert_new
from pixano_cli.inference_store.process import host, is_alive

# A run that left no word for this long is dead, wherever it was started.
ABANDONED_AFTER_US = 7 * 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a job; `job` is what is needed to write its outputs again."""

    run_id: str
    job: Mapping[str, Any]


def free_order(connection: Connection) -> Order:
    """Return an order of work that no other run has that is under way.

    Two that go towards each other ask twice only for what they meet at, where two that go the same
    way may ask for everything twice.
    """
    runs = schema.runs
    begun = connection.execute(
        select(runs).where(
            runs.c.finished_at.is_(None), runs.c.started_at >= now() - ABANDONED_AFTER_US
        )
    )
    this_host, this_process = host(), os.getpid()
    taken = {
        orjson.loads(run.job).get("order")
        for run in begun
        if run.host != this_host or (run.pid != this_process and is_alive(run.pid))
    }
    orders: tuple[Order, ...] = ("ascending", "descending")
    return next((order for order in orders if order not in taken), "random")


def begin_run(connection: Connection, run_id: str, job_key: str, job: Mapping[str, Any]) -> None:
    """Record the start of a run, and forget the items of the same job's earlier, ended runs."""
    runs = schema.runs
    this_host = host()
    earlier = connection.execute(select(runs).where(runs.c.job_key == job_key)).all()
    ended = [
        run.run_id
        for run in earlier
        if run.finished_at is not None
        or run.started_at < now() - ABANDONED_AFTER_US
        or (run.host == this_host and not is_alive(run.pid))
    ]
    connection.execute(delete(schema.items).where(schema.items.c.run_id.in_(ended)))
    connection.execute(
        insert(runs),
        {
            "run_id": run_id,
            "job_key": job_key,
            "job": orjson.dumps(job).decode(),
            "started_at": now(),
            "host": this_host,
            "pid": os.getpid(),
        },
    )


def finish_run(connection: Connection, run_id: str, summary: Mapping[str, Any]) -> None:
    """Record the end of a run with its summary."""
    connection.execute(
        update(schema.runs)
        .where(schema.runs.c.run_id == run_id)
        .values(finished_at=now(), summary=orjson.dumps(summary).decode())
    )


def find_run(store: Store, run_id: str | None = None, task: str | None = None) -> Run | None:
    """Return the run with this id, or the latest one (of this task) whose items are still known."""
    runs, items = schema.runs, schema.items
    query = select(runs.c.run_id, runs.c.job).order_by(runs.c.started_at.desc())
    query = query.where(select(items.c.run_id).where(items.c.run_id == runs.c.run_id).exists())
    if run_id is not None:
        query = query.where(runs.c.run_id == run_id)
    with store.read() as connection:
        for found in connection.execute(query, execution_options=STREAMED):
            job = orjson.loads(found.job)
            if task is None or job["task"] == task:
                return Run(found.run_id, job)
    return None


def keep_request(connection: Connection, request_key: str, request: Mapping[str, Any]) -> None:
    """Keep what a request key stands for."""
    insert_new(
        connection,
        schema.requests,
        [{"request_key": request_key, "request": orjson.dumps(request).decode()}],
        ["request_key"],
    )


def requests(store: Store) -> Iterator[Mapping[str, Any]]:
    """Yield all requests that were kept."""
    with store.read() as connection:
        for request in connection.execute(select(schema.requests.c.request)).scalars():
            yield orjson.loads(request)
