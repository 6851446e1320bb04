"""A Pixano Inference server: what it speaks, which models it has, and asking one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

from pixano_cli.inference.embedding import AnyTask
from pixano_cli.inference.errors import (
    InferenceError,
    InvalidRequestError,
    ModelNotFoundError,
    TaskNotSupportedError,
    choices,
)
from pixano_cli.inference.providers.dialects import (
    Dialect,
    Generation,
    ListedModel,
    find_dialect,
    get_models,
    is_loading,
)
from pixano_cli.inference.providers.http import Answer, HttpServer
from pixano_cli.inference.providers.pixano_answers import Envelope, Failure
from pixano_cli.inference.providers.pixano_jobs import ENVELOPE, Queue, Reply, ask_job, ask_task
from pixano_cli.inference.providers.remote import read
from pixano_cli.inference.types import InferenceTask

TASKS_AT_ONCE = 8
"""Tasks and jobs that are under way at once, unless told otherwise."""

_LOADING_PAUSE_S = 0.5
_NO = frozenset({400, 404})


class Told(NamedTuple):
    """An answer, and what makes the error if it is not as documented."""

    envelope: Envelope
    fail: Failure


class PixanoServer:
    """What is known of one server, found out once, and how its models are asked."""

    def __init__(
        self, http: HttpServer, dialect: Dialect | None = None, at_once: int = TASKS_AT_ONCE
    ) -> None:
        """Make it; nothing is sent yet.

        Args:
            http: The server.
            dialect: What it speaks; None to find it out.
            at_once: Most tasks and jobs under way at once. They wait in the server's own queue,
                where no limit on requests holds them back, and their time would run there.
        """
        self.http = http
        self._dialect = dialect
        self._finding = asyncio.Lock()
        self._at_once = asyncio.Semaphore(at_once)
        self._known: dict[str, ListedModel] = {}
        self._queues: dict[str, Queue] = {}

    @property
    def url(self) -> str:
        """Its address."""
        return self.http.url

    async def dialect(self) -> Dialect:
        """Return what it speaks.

        Raises:
            InferenceError: If it is no Pixano Inference server, or cannot be asked.
        """
        async with self._finding:
            if self._dialect is None:
                self._dialect = await find_dialect(self.http)
            return self._dialect

    async def models(self) -> list[ListedModel]:
        """Return its models, as they are now."""
        models = await get_models(self.http, await self.dialect())
        self._known = {model.name: model for model in models}
        return models

    async def find(self, name: str) -> ListedModel:
        """Return a model, as it is now.

        Raises:
            ModelNotFoundError: If there is none of the name.
        """
        await self.models()
        if name not in self._known:
            raise self.no_such_model(name, self._known)
        return self._known[name]

    async def known(self, name: str) -> ListedModel:
        """Return a model, as it was when its like was last listed.

        Raises:
            ModelNotFoundError: If there is none of the name.
        """
        return self._known.get(name) or await self.find(name)

    def forget(self) -> None:
        """Forget the models, which are not the same any more."""
        self._known = {}

    def no_such_model(self, name: str, names: Iterable[str]) -> ModelNotFoundError:
        """Return the error for a model that is not there."""
        return ModelNotFoundError(f"{self.url} has no model {name!r}: {choices(name, names)}")

    async def ask(self, task: AnyTask, model: str, body: dict[str, Any], timeout: float) -> Told:
        """Ask for a task, in the way of the server's generation.

        A server that was just started takes requests before it has its models: it is waited for.

        Raises:
            ModelNotFoundError: If the server has no model of the name.
            TaskNotSupportedError: If the model does something else.
            InvalidRequestError: If the server refuses the request or the key.
            InferenceTimeoutError: If there is no result in time.
            InferenceError: If there is no result for another reason.
        """
        dialect = await self.dialect()
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while True:
            reply = await self._ask_once(task, dialect.generation, body, end - loop.time())
            if isinstance(reply, Reply):
                break
            if (
                reply.status != 404
                or loop.time() + _LOADING_PAUSE_S >= end
                or not await is_loading(self.http, dialect)
            ):
                raise await self._refused(task, model, reply)
            await asyncio.sleep(_LOADING_PAUSE_S)
        envelope, fail = reply.envelope, partial(_malformed, reply.where)
        if envelope.status not in ("SUCCESS", "PENDING"):
            raise InferenceError(
                f"{reply.where} failed ({envelope.status[:40]!r}): its own log may say why"
            )
        if envelope.data is None or envelope.status != "SUCCESS":
            raise fail("data: Field required")
        return Told(envelope, fail)

    async def _ask_once(
        self, task: AnyTask, generation: Generation, body: dict[str, Any], timeout: float
    ) -> Reply | Answer:
        route = generation.route(task)
        if generation.is_celery:
            async with self._at_once:
                queue = self._queues.setdefault(body["model"], Queue())
                return await ask_task(self.http, route, body, queue, timeout=timeout, heed=_NO)
        if task is InferenceTask.VIDEO_MASK_GENERATION:
            async with self._at_once:
                return await ask_job(self.http, generation, body, timeout=timeout, heed=_NO)
        answer = await self.http.post(route, body, timeout=timeout, heed=_NO)
        return Reply(read(ENVELOPE, answer), answer.where) if answer.is_success else answer

    async def _refused(self, task: AnyTask, name: str, answer: Answer) -> InferenceError:
        """Return the error for what is refused: because of the model, or of the request."""
        model = await self.find(name)
        if model.does != task.value:
            return TaskNotSupportedError(
                f"model {name!r} at {self.url} does {model.does}, "
                f"and not {task.value}: choose another model"
            )
        return InvalidRequestError(
            f"{answer.where} refuses the request ({answer.status}: {answer.said})"
        )


def _malformed(where: str, how: str) -> InferenceError:
    return InferenceError(
        f"{where} answers otherwise than documented ({how}): check the URL and the model"
    )
