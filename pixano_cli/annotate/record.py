"""The one writer of a run: takes outcomes as they come and commits those that wait, together."""

from __future__ import annotations

import asyncio
import queue
import threading
from time import monotonic
from types import TracebackType

from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.ledger import Outcome, record_outcomes

# Waiting this long for company makes commits several times cheaper, and a kill costs no more
# than what came in meanwhile.
LINGER_S = 0.02

_Entry = tuple[Outcome, "asyncio.Future[None]"]


class Recorder:
    """Commits outcomes in a thread of its own; `record` returns when one is on disk.

    Whoever waits for `record` bounds how much is not yet committed, so nothing else needs to.
    """

    def __init__(self, store: Store, run_id: str, *, overwrite: bool) -> None:
        """Prepare; used as a context manager inside a running event loop.

        Args:
            store: Where to commit.
            run_id: The run that the outcomes are of.
            overwrite: Whether answers replace recorded ones.
        """
        self._store = store
        self._run_id = run_id
        self._overwrite = overwrite
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

    def _write(self) -> None:
        ended = False
        while not ended:
            group, ended = self._gather()
            if not group:
                continue
            error: Exception | None = None
            try:
                with self._store.write() as connection:
                    outcomes = [outcome for outcome, _ in group]
                    record_outcomes(connection, self._run_id, outcomes, overwrite=self._overwrite)
            except Exception as failure:
                error = failure
            self._loop.call_soon_threadsafe(_resolve, [done for _, done in group], error)

    def _gather(self) -> tuple[list[_Entry], bool]:
        """Return the entries to commit together, and whether they are the last."""
        entry = self._queue.get()
        deadline = monotonic() + LINGER_S
        group: list[_Entry] = []
        while entry is not None:
            group.append(entry)
            try:
                entry = self._queue.get(timeout=max(0.0, deadline - monotonic()))
            except queue.Empty:
                return group, False
        return group, True


def _resolve(futures: list[asyncio.Future[None]], error: Exception | None) -> None:
    for future in futures:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
