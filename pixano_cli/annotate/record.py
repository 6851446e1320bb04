"""The one writer of a run: takes outcomes as they come and commits those that wait, together."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Sequence
from time import monotonic
from types import TracebackType

from pixano_cli.errors import StoreError
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.errors import UnstorableError
from pixano_cli.inference_store.ledger import Outcome, record_outcomes

# A commit costs nearly the same for one outcome as for many, so an outcome waits this long for
# company, unless there is enough of it; a kill costs no more than what came in meanwhile.
LINGER_S = 0.1
COMPANY = 8

_Entry = tuple[Outcome, "asyncio.Future[None]"]


class Recorder:
    """Commits outcomes in a thread of its own; `record` returns when one is on disk.

    Whoever waits for `record` bounds how much is not yet committed, so nothing else needs to.
    """

    def __init__(
        self, store: Store, run_id: str, *, overwrite: bool, company: int = COMPANY
    ) -> None:
        """Prepare; used as a context manager inside a running event loop.

        Args:
            store: Where to commit.
            run_id: The run that the outcomes are of.
            overwrite: Whether answers replace recorded ones.
            company: How many outcomes do not wait for more.
        """
        self._store = store
        self._run_id = run_id
        self._overwrite = overwrite
        self._company = company
        self._linger_s = LINGER_S
        self._queue: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="recorder", daemon=True)
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Recorder:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Commit what is still waiting and stop the thread."""
        self._queue.put(None)
        self._thread.join()

    async def record(self, outcome: Outcome) -> None:
        """Commit an outcome.

        Raises:
            StoreError: If it could not be committed.
        """
        done: asyncio.Future[None] = self._loop.create_future()
        self._queue.put((outcome, done))
        await done

    def hurry(self) -> None:
        """Wait for no more company: little is left to come."""
        self._linger_s = 0.0

    def _write(self) -> None:
        ended = False
        while not ended:
            group, ended = self._gather()
            if not group:
                continue
            error = self._commit(group)
            if error is None or is_fatal(error) or len(group) == 1:
                self._tell(group, error)
                continue
            # One of them cannot be stored as it is; the others can.
            for entry in group:
                self._tell([entry], self._commit([entry]))

    def _commit(self, group: Sequence[_Entry]) -> Exception | None:
        try:
            with self._store.write() as connection:
                outcomes = [outcome for outcome, _ in group]
                record_outcomes(connection, self._run_id, outcomes, overwrite=self._overwrite)
        except Exception as error:
            return error
        return None

    def _tell(self, group: Sequence[_Entry], error: Exception | None) -> None:
        self._loop.call_soon_threadsafe(_resolve, [done for _, done in group], error)

    def _gather(self) -> tuple[list[_Entry], bool]:
        """Return the entries to commit together, and whether they are the last."""
        entry = self._queue.get()
        deadline = monotonic() + self._linger_s
        group: list[_Entry] = []
        while entry is not None:
            group.append(entry)
            left = deadline - monotonic() if len(group) < self._company else 0.0
            try:
                entry = self._queue.get(timeout=max(0.0, left))
            except queue.Empty:
                return group, False
        return group, True


def is_fatal(error: Exception) -> bool:
    """Whether the store fails, whatever it is given."""
    return isinstance(error, StoreError) and not isinstance(error, UnstorableError)


def _resolve(futures: list[asyncio.Future[None]], error: Exception | None) -> None:
    for future in futures:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
