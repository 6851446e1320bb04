"""Micro-batching: requests that arrive together are answered by one pass of the model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import BaseModel

from pixano_cli.inference.errors import InferenceError
from pixano_cli.inference.providers.loading import LocalModel


@dataclass(slots=True)
class _Batch:
    """What waits to be asked, and the clock that ends the waiting."""

    inputs: list[BaseModel] = field(default_factory=list)
    answers: list[asyncio.Future[Any]] = field(default_factory=list)
    clock: asyncio.TimerHandle | None = None


class MicroBatcher:
    """Groups the inputs of one model.

    A batch is asked when it has `size` inputs, or `wait_s` seconds after its first one came. Where
    `predict_batch` raises, each input is asked alone, so that one bad input fails alone.
    """

    def __init__(self, model: LocalModel, pool: Executor, size: int, wait_s: float) -> None:
        self._model = model
        self._pool = pool
        self._size = size
        self._wait_s = wait_s
        # Futures belong to a loop, so each loop has its own batch.
        self._open: WeakKeyDictionary[asyncio.AbstractEventLoop, _Batch] = WeakKeyDictionary()

    async def predict(self, model_input: BaseModel) -> Any:
        """Return the model's output for one input.

        Raises:
            Exception: Whatever the model raises for this input.
        """
        loop = asyncio.get_running_loop()
        batch = self._open.setdefault(loop, _Batch())
        answer: asyncio.Future[Any] = loop.create_future()
        batch.inputs.append(model_input)
        batch.answers.append(answer)
        if len(batch.inputs) >= self._size:
            self._ask(loop)
        elif batch.clock is None:
            batch.clock = loop.call_later(self._wait_s, self._ask, loop)
        return await answer

    def _ask(self, loop: asyncio.AbstractEventLoop) -> None:
        batch = self._open.pop(loop)
        if batch.clock is not None:
            batch.clock.cancel()
        wanted = [
            (model_input, answer)
            for model_input, answer in zip(batch.inputs, batch.answers, strict=True)
            if not answer.done()
        ]
        if not wanted:
            return
        inputs, answers = zip(*wanted, strict=True)
        try:
            job = loop.run_in_executor(self._pool, self._outputs, inputs)
        except RuntimeError as error:
            _fail(answers, error)
        else:
            job.add_done_callback(partial(_deliver, answers))

    def _outputs(self, inputs: Sequence[BaseModel]) -> list[Any]:
        """Return an output or an exception for each input."""
        with self._model.in_use() as model:
            # One by one tells whose the error is, and gives the others their answers.
            with suppress(Exception):
                outputs = model.predict_batch(list(inputs))
                if len(outputs) == len(inputs):
                    return outputs
            return [_output_or_error(model, each) for each in inputs]


def _output_or_error(model: Any, model_input: BaseModel) -> Any:
    try:
        return model.predict(model_input)
    except Exception as error:
        return error


def _deliver(answers: Sequence[asyncio.Future[Any]], job: asyncio.Future[list[Any]]) -> None:
    if job.cancelled():
        _fail(answers, InferenceError("the local provider was closed before it answered"))
        return
    error = job.exception()
    if error is not None:
        _fail(answers, error)
        return
    for answer, output in zip(answers, job.result(), strict=True):
        if answer.done():
            continue
        if isinstance(output, Exception):
            answer.set_exception(output)
        else:
            answer.set_result(output)


def _fail(answers: Sequence[asyncio.Future[Any]], error: BaseException) -> None:
    for answer in answers:
        if not answer.done():
            answer.set_exception(error)
