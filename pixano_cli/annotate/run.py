"""Running the plan: files are read ahead, asked about several at once, and recorded as they come.

One file's way: read its bytes once, take their digest, ask for what the record lacks, commit.
The bytes of only a few more files than the provider works on are in memory at any time.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import chain
from typing import Protocol

from pixano_cli.annotate.limits import Limits
from pixano_cli.annotate.lookup import Lookup
from pixano_cli.annotate.prompts import PromptError
from pixano_cli.annotate.record import COMPANY, Recorder, is_fatal
from pixano_cli.annotate.room import Room
from pixano_cli.annotate.task import Image, PartlyAnsweredError, Task, usage_of
from pixano_cli.errors import MediaError, ModelError
from pixano_cli.formats.text import portable
from pixano_cli.inference.errors import InferenceError, NotSentError, ProviderDownError
from pixano_cli.inference.providers.keys import hide_keys
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.ledger import (
    Failure,
    Item,
    Order,
    Outcome,
    Picture,
    Status,
    pages,
)
from pixano_cli.inference_store.records import Record
from pixano_cli.media import flight, identity
from pixano_cli.media.capture import Capture

logger = logging.getLogger(__name__)

# Files that are read while others are with the model.
IN_MEMORY = 4
# Up to this more are read, if many are asked about at once.
SMALL_BYTES = 128 * 1024 * 1024
# How long one of many waits for others to be looked up with.
COMPANY_S = 0.02
# Files that are begun while others are with the model: read, or done and waiting for their commit.
READ_AHEAD = IN_MEMORY + COMPANY

_LOOK_EVERY_S = 0.1


class Progress(Protocol):
    """Told how far a run is."""

    def start(self, total: int, cached: int) -> None:
        """The files are counted; `cached` of them are answered by the record."""

    def advance(self, outcome: Outcome) -> None:
        """One more file is done."""

    def resume(self, item: Item, frame: int) -> None:
        """A video goes on from this frame."""

    def part(self, item: Item, frame: int, of: int | None) -> None:
        """A video's first `frame` frames are done, of about `of`; None if nobody knows.

        Frames of the source are meant, whether they are looked at or not.
        """

    def stop(self) -> None:
        """No more will be done."""


async def run_items(
    task: Task,
    store: Store,
    run_id: str,
    *,
    concurrency: int,
    again: bool,
    stop: threading.Event,
    limits: Limits,
    progress: Progress,
    hold_back: Callable[[], None],
    order: Order = "ascending",
) -> None:
    """Do a run's pending items.

    Args:
        task: What to ask.
        store: The record.
        run_id: The run.
        concurrency: How many images the provider works on at once.
        again: Whether to ask also for what is recorded.
        stop: Once set, no new item is begun; those in flight are finished and recorded.
        limits: As far as the run may go; what it used is counted there.
        progress: Told of every item.
        hold_back: Tells the provider to begin nothing more, when the run is to stop.
        order: In which order of their names the items are begun.

    Raises:
        StoreError: If the store fails; what it has committed stays.
        ModelError: If the model cannot be loaded.
        ProviderDownError: If the provider is away for good.
    """
    # A server answers all that it was asked at once at once: half of that is company, and what is
    # to be sent next is read by then.
    company = max(COMPANY, concurrency // 2)
    always = concurrency + IN_MEMORY
    most = always + concurrency if concurrency > COMPANY else always
    with Recorder(store, run_id, overwrite=again, company=company) as recorder:
        room = Room(always, most, SMALL_BYTES)
        # Where little is asked at once there is no company to wait for.
        wait_s = COMPANY_S if concurrency > COMPANY else 0.0
        lookup = Lookup(store, task.settled_by, wait_s) if task.settled_by else None
        runner = _Runner(task, store, run_id, recorder, lookup, room, again, stop, limits, progress)
        items = chain.from_iterable(pages(store, run_id, "pending", order=order))
        watching = asyncio.create_task(hold_back_once(stop, limits, hold_back))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(most + company):
                    group.create_task(runner.work(items))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            watching.cancel()


async def hold_back_once(
    stop: threading.Event, limits: Limits, hold_back: Callable[[], None]
) -> None:
    """Call `hold_back` once the run is to stop: most of what is begun waits for its turn then."""
    while not stop.is_set() and not limits.is_reached():
        await asyncio.sleep(_LOOK_EVERY_S)
    hold_back()


class _Runner:
    def __init__(
        self,
        task: Task,
        store: Store,
        run_id: str,
        recorder: Recorder,
        lookup: Lookup | None,
        room: Room,
        again: bool,
        stop: threading.Event,
        limits: Limits,
        progress: Progress,
    ) -> None:
        self._task = task
        self._store = store
        self._run_id = run_id
        self._recorder = recorder
        self._lookup = lookup
        self._room = room
        self._again = again
        self._stop = stop
        self._limits = limits
        self._progress = progress
        self._locks: dict[str, asyncio.Lock] = {}
        self._holders: Counter[str] = Counter()
        self._asked_again: set[tuple[bytes, str | None]] = set()

    async def work(self, items: Iterator[Item]) -> None:
        """Do one item after the other until there are none, or no more are to be begun."""
        while not self._stop.is_set() and self._limits.reason is None:
            item = next(items, None)
            if item is None:
                break
            outcome = await self._do(item)
            if outcome is None or outcome.status == "pending":
                break
            self._progress.advance(outcome)
        self._recorder.hurry()

    async def _do(self, item: Item) -> Outcome | None:
        """Do an item and return what became of it; None if it is left as it is for another run."""
        picture: Picture | None = None
        try:
            async with AsyncExitStack() as until_recorded:
                async with self._room.hold(item.size if item.size >= 0 else SMALL_BYTES):
                    data, read, capture = await asyncio.to_thread(_read, item)
                    picture = read
                    item = replace(item, sha256=read.sha256)
                    # The same bytes under another name wait here, and then find their answer.
                    await until_recorded.enter_async_context(self._alone(read.sha256))
                    with flight.hold(item.url, data):
                        outcome = await self._ask(Image(item, read, self._run_id, capture))
                    del data
                if outcome is None:
                    return None
                if not outcome.records:
                    # There is nothing that other names of these bytes would have to wait for.
                    await until_recorded.aclose()
                await self._recorder.record(outcome)
                return outcome
        except PartlyAnsweredError as partly:
            # What is answered is paid for, whatever became of the rest.
            return await self._fail(item, picture, partly.error, tuple(partly.records))
        except Exception as error:
            return await self._fail(item, picture, error)

    async def _fail(
        self,
        item: Item,
        picture: Picture | None,
        error: Exception,
        records: tuple[Record, ...] = (),
    ) -> Outcome | None:
        """Record that an item failed, with what was answered of it; see `_do`."""
        is_over = is_fatal(error) or isinstance(error, (ModelError, ProviderDownError))
        if is_over or isinstance(error, NotSentError):
            if records:
                await self._recorder.record(Outcome(item, "pending", picture, records))
            if is_over:
                raise error
            return None
        logger.debug("%s failed", item.file_name, exc_info=error)
        failure = describe_failure(error)
        outcome = Outcome(item, "failed", picture, records, failure)
        await self._recorder.record(outcome)
        return outcome

    async def _ask(self, image: Image) -> Outcome | None:
        # Short, for there is one for each image.
        work = (bytes.fromhex(image.picture.sha256[:32]), image.item.prompts)
        again = self._again and work not in self._asked_again
        if not again and self._lookup is not None:
            if await self._lookup.is_answered(image.picture.sha256):
                return Outcome(image.item, "cached", image.picture)
            # It needs no second look.
            again = True
        if not await self._limits.begin():
            return None
        usages: list[Mapping[str, int] | None] = []
        try:
            records = await self._task.ask(image, self._store, again=again)
            usages = [usage_of(each) for each in records]
        except InferenceError as error:
            usages = [error.usage] if error.usage else []
            raise
        except PartlyAnsweredError as partly:
            usages = [usage_of(each) for each in partly.records]
            usages += [partly.error.usage] if partly.error.usage else []
            raise
        except SystemExit as error:
            raise InferenceError(f"the model tried to end the program: {error!r}") from error
        finally:
            await self._limits.end(*usages)
        if self._again:
            self._asked_again.add(work)
        status: Status = "processed" if records else "cached"
        return Outcome(image.item, status, image.picture, tuple(records))

    @asynccontextmanager
    async def _alone(self, sha256: str) -> AsyncIterator[None]:
        """Let one worker at a time at the same bytes."""
        self._holders[sha256] += 1
        try:
            async with self._locks.setdefault(sha256, asyncio.Lock()):
                yield
        finally:
            self._holders[sha256] -= 1
            if not self._holders[sha256]:
                del self._holders[sha256], self._locks[sha256]


def describe_failure(error: Exception) -> Failure:
    """Return what is recorded of an item's error, in one line."""
    if isinstance(error, MediaError):
        stage = error.stage
    elif isinstance(error, PromptError):
        stage = "prompt"
    else:
        stage = "infer"
    # PostgreSQL holds no NUL.
    message = portable(" ".join(hide_keys(str(error)).replace("\0", "\\0").split()))
    return Failure(stage, type(error).__name__, message)


def _read(item: Item) -> tuple[bytes, Picture, Capture]:
    data = identity.read_file(flight.path_of(item.url))
    facts = identity.probe(data)
    picture = Picture(
        sha256=identity.sha256(data),
        size=len(data),
        width=facts.width,
        height=facts.height,
        orientation=facts.orientation,
        format=facts.format,
    )
    return data, picture, facts.capture
