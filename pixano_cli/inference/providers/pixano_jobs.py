"""Answers that have to be asked for: tasks of the first generation, tracking jobs of later ones.

What was submitted is cancelled where its answer will not be waited for: when the time is over, or
whoever asked went away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote

from pydantic import Field, TypeAdapter

from pixano_cli.errors import PixanoAnnotateError
from pixano_cli.inference.errors import InferenceError, InferenceTimeoutError
from pixano_cli.inference.providers.dialects import CamelWire, Generation
from pixano_cli.inference.providers.http import Answer, HttpServer
from pixano_cli.inference.providers.pixano_answers import Envelope
from pixano_cli.inference.providers.remote import LOOK_TIMEOUT_S, malformed, read

SUBMISSIONS = 4
"""How often a job is submitted at most: a server forgets its jobs when it is restarted."""

_UNDER_WAY = frozenset({"PENDING", "RECEIVED", "STARTED", "RETRY"})
_CANCEL_TIMEOUT_S = 5.0
_LOOKS_AFTER_OTHERS = 2
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


class Reply(NamedTuple):
    """An answer, and the address that it is from, for errors."""

    envelope: Envelope
    where: str


class JobStatus(CamelWire):
    """What a server tells of a job."""

    job_id: str
    status: str
    detail: str | None = None
    data: Any = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    timestamp: datetime | None = None
    processing_time: Annotated[float, Field(ge=0)] = 0.0


ENVELOPE = TypeAdapter(Envelope)
_JOB = TypeAdapter(JobStatus)


class Queue:
    """What is known of the order in which a server answers the tasks for one model."""

    def __init__(self) -> None:
        """Begin with nothing answered."""
        self._latest = 0.0

    def answered(self, begun: float) -> None:
        """Note that a task was answered that had been begun at a moment."""
        self._latest = max(self._latest, begun)

    def is_past(self, accepted: float) -> bool:
        """Return whether a task was answered that was begun after this moment."""
        return self._latest > accepted


async def ask_task(
    server: HttpServer,
    route: str,
    body: Any,
    queue: Queue,
    *,
    timeout: float,
    heed: Collection[int],
) -> Reply | Answer:
    """Ask a server that may answer at once, or with the id of a task to poll.

    A result can be read only once, and the server lets go of one that comes in the moment in which
    it says that there is none; then, and of an id that it does not know, it says for ever that the
    task is pending. So a task is submitted again that later ones have overtaken, or that takes a
    third of the time, and the wait is no longer than `timeout` seconds in all.

    Args:
        server: Who is asked.
        route: Path that is posted to, and that the tasks' own paths begin with.
        body: What is sent.
        queue: The tasks for this model.
        timeout: Seconds in all.
        heed: Statuses of refusals to return.

    Returns:
        The answer, or the refusal if its status is in `heed`.

    Raises:
        InferenceTimeoutError: If there is no result in time.
        InferenceError: If the task failed or was revoked, and as `HttpServer.post` does.
    """
    loop = asyncio.get_running_loop()
    async with _time_limit(server, route, timeout):
        while True:
            begun = loop.time()
            answer = await server.post(route, body, timeout=timeout, heed=heed)
            if not answer.is_success:
                return answer
            envelope = read(ENVELOPE, answer)
            if envelope.data is not None:
                return Reply(envelope, answer.where)
            path = f"{route}{quote(envelope.id, safe='')}"
            async with _cancelled_with_us(server, path):
                reply = await _poll_task(server, path, envelope, answer, queue, timeout / 3)
            if reply is not None:
                queue.answered(begun)
                return reply


async def _poll_task(
    server: HttpServer, path: str, envelope: Envelope, answer: Answer, queue: Queue, longest: float
) -> Reply | None:
    """Return the answer of a task; None if it was lost, as far as can be told."""
    loop = asyncio.get_running_loop()
    accepted = loop.time()
    looks_since = 0
    for pause in _pauses():
        _check_task(envelope, answer)
        if looks_since > _LOOKS_AFTER_OTHERS or loop.time() - accepted > longest:
            break
        looks_since += queue.is_past(accepted)
        await asyncio.sleep(pause)
        answer = await server.get(path, timeout=LOOK_TIMEOUT_S)
        envelope = read(ENVELOPE, answer)
        if envelope.data is not None:
            return Reply(envelope, answer.where)
    return None


async def ask_job(
    server: HttpServer,
    generation: Generation,
    body: Any,
    *,
    timeout: float,
    heed: Collection[int],
) -> Reply | Answer:
    """Ask for the tracking of a video: submit a job and poll it.

    A job that the server has forgotten is submitted again.

    Returns:
        The answer, or the refusal if its status is in `heed`.

    Raises:
        InferenceTimeoutError: If there is no result in time.
        InferenceError: If the job failed or was cancelled by somebody else, or is forgotten again
            and again, and as `HttpServer.post` does.
    """
    is_new = generation >= Generation.G4
    route = "/v1/inference/tracking/jobs" if is_new else "/inference/tracking/jobs/"
    jobs = "/v1/jobs/" if is_new else route
    async with _time_limit(server, route, timeout):
        for _ in range(SUBMISSIONS):
            answer = await server.post(route, body, timeout=timeout, heed=heed)
            if not answer.is_success:
                return answer
            job = read(_JOB, answer)
            path = f"{jobs}{quote(job.job_id, safe='')}"
            async with _cancelled_with_us(server, path):
                for pause in _pauses():
                    if job.status != "running":
                        return Reply(_ended(job, answer), answer.where)
                    await asyncio.sleep(pause)
                    answer = await server.get(path, timeout=LOOK_TIMEOUT_S, heed={404})
                    if not answer.is_success:
                        break
                    job = read(_JOB, answer)
    raise InferenceError(
        f"{server.url} forgot a job {SUBMISSIONS} times: it is restarted again and again, "
        "or has too many jobs, so see its log"
    )


def _check_task(envelope: Envelope, answer: Answer) -> None:
    if envelope.status == "SUCCESS":
        raise malformed(answer, "success without data")
    if envelope.status not in _UNDER_WAY:
        raise InferenceError(
            f"{answer.where} failed ({envelope.status[:40]!r}): the server's own log may say why"
        )


def _ended(job: JobStatus, answer: Answer) -> Envelope:
    if job.status != "completed":
        detail = " ".join((job.detail or "").split())[:200]
        told = f"{job.status[:40]!r}" + (f": {detail}" if detail else "")
        raise InferenceError(
            f"{answer.where} was not completed ({told}): the server's own log may say why"
        )
    if job.data is None:
        raise malformed(answer, "a completed job without data")
    return Envelope(
        id=job.job_id,
        status="SUCCESS",
        timestamp=job.timestamp or datetime.now(UTC),
        processing_time=job.processing_time,
        metadata=job.metadata,
        data=job.data,
    )


def _pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE_S
    while True:
        yield pause
        pause = min(pause * 1.5, _LONGEST_PAUSE_S)


@asynccontextmanager
async def _time_limit(server: HttpServer, route: str, timeout: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout):
            yield
    except TimeoutError as error:
        raise InferenceTimeoutError(
            f"{server.url}{route} did not answer in {timeout:g} s, and was told to stop: "
            "allow more time, or lower the concurrency"
        ) from error


@asynccontextmanager
async def _cancelled_with_us(server: HttpServer, path: str) -> AsyncIterator[None]:
    try:
        yield
    except (asyncio.CancelledError, InferenceTimeoutError):
        # That it cannot be cancelled is no news to whoever does not wait for it.
        with suppress(PixanoAnnotateError, TimeoutError):
            async with asyncio.timeout(_CANCEL_TIMEOUT_S):
                await server.delete(path, timeout=_CANCEL_TIMEOUT_S, heed={404, 405, 409})
        raise
