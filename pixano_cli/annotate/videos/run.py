"""Running over videos: one after the other, what is answered committed every so many frames.

A commit holds the answers, the objects that were linked, and what the model needs to go on; so a
run that is killed goes on after the last commit, and what it writes at the end is the same.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import chain
from time import monotonic

from pixano_cli.annotate.limits import Limits
from pixano_cli.annotate.record import is_fatal
from pixano_cli.annotate.run import Progress, describe_failure, hold_back_once
from pixano_cli.annotate.videos.at_hand import VideoAtHand
from pixano_cli.annotate.videos.task import Commit, Followed, VideoTask, Work, count_recorded
from pixano_cli.errors import ModelError, VideoError
from pixano_cli.inference.errors import NotSentError, ProviderDownError
from pixano_cli.inference_store import runs
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.frames import (
    Checkpoint,
    RecordedFrame,
    forget_work,
    get_checkpoint,
    put_checkpoint,
    put_linked,
)
from pixano_cli.inference_store.ledger import Item, Order, Outcome, Picture, pages, record_outcomes
from pixano_cli.inference_store.records import Record, insert_records
from pixano_cli.media.flight import path_of
from pixano_cli.media.video import Video
from pixano_cli.media.video_identity import digest_of
from pixano_cli.media.videos import open_video

logger = logging.getLogger(__name__)

# What costs little to commit does not wait for the checkpoint.
_SOON_S = 1.0


async def run_videos(
    task: VideoTask,
    store: Store,
    run_id: str,
    *,
    concurrency: int,
    again: bool,
    stop: threading.Event,
    limits: Limits,
    progress: Progress,
    hold_back: Callable[[], None],
    order: Order,
) -> None:
    """Do a run's pending videos; see `annotate.run.run_items`.

    Raises:
        StoreError: If the store fails; what it has committed stays.
        ModelError: If the model cannot be loaded.
        ProviderDownError: If the provider is away for good.
    """
    runner = _Runner(task, store, run_id, again, stop, limits, progress)
    watching = asyncio.create_task(hold_back_once(stop, limits, hold_back))
    try:
        for item in chain.from_iterable(pages(store, run_id, "pending", order=order)):
            if runner.is_to_stop() or not await runner.do(item):
                return
    finally:
        watching.cancel()


class _Runner:
    def __init__(
        self,
        task: VideoTask,
        store: Store,
        run_id: str,
        again: bool,
        stop: threading.Event,
        limits: Limits,
        progress: Progress,
    ) -> None:
        self._task = task
        self._store = store
        self._run_id = run_id
        self._again = again
        self._stop = stop
        self._limits = limits
        self._progress = progress
        self._forgotten: set[tuple[str, str]] = set()

    def is_to_stop(self) -> bool:
        """Whether no more frame is to be begun."""
        return self._stop.is_set() or self._limits.is_reached()

    async def do(self, item: Item) -> bool:
        """Do a video; return False if the run is to stop before its end."""
        outcome: Outcome | None
        picture: Picture | None = None
        try:
            sha256, size = await asyncio.to_thread(digest_of, path_of(item.url))
            item = replace(item, sha256=sha256)
            video = await asyncio.to_thread(open_video, path_of(item.url))
            with video:
                facts = video.facts
                picture = Picture(sha256, size, facts.width, facts.height, 1, facts.format)
                outcome = await self._follow(item, picture, video)
        except NotSentError:
            return False
        except Exception as error:
            if is_fatal(error) or isinstance(error, (ModelError, ProviderDownError)):
                raise
            logger.debug("%s failed", item.file_name, exc_info=error)
            outcome = Outcome(item, "failed", picture, failure=describe_failure(error))
        if outcome is None:
            return False
        await asyncio.to_thread(self._end, outcome)
        self._progress.advance(outcome)
        return True

    async def _follow(self, item: Item, picture: Picture, video: Video) -> Outcome | None:
        task, store = self._task, self._store
        work = task.plan.work(item, picture.sha256)
        if self._again:
            self._forget(work, picture.sha256)
        checkpoint = get_checkpoint(store, work.key)
        if checkpoint and checkpoint.is_complete:
            if count_recorded(store, task.plan, work, picture.sha256) >= checkpoint.frames:
                return Outcome(item, "cached", picture)
            # Some of it was removed: what is left is not asked for again.
            checkpoint = None
        if checkpoint:
            self._progress.resume(item, checkpoint.next_frame)
        if checkpoint and checkpoint.state is None:
            # Nothing is needed to go on: all frames come by again, and what is recorded is known.
            checkpoint = None
        with store.write() as connection:
            runs.keep_request(connection, work.request_keys[-1], work.request.to_dict())
        begun = _Begun(store, work, checkpoint or Checkpoint(0, 0), task.checkpoint_every)
        at_hand = VideoAtHand(item, picture, self._run_id, video)
        try:
            async with aclosing(task.follow(at_hand, work, store, checkpoint)) as frames:
                async for followed in frames:
                    await begun.add(followed)
                    frame = followed.at.index + 1
                    self._progress.part(item, frame, video.facts.claimed_frames)
                    if self.is_to_stop() and followed.commit is not Commit.NOT_YET:
                        await begun.commit()
                        return None
        except Exception:
            await begun.commit_what_stands_alone()
            raise
        if not begun.frames:
            raise VideoError(f"no frame of {item.file_name} is looked at: see --start and --end")
        await begun.commit(is_complete=True)
        return Outcome(item, "processed" if begun.asked else "cached", picture)

    def _forget(self, work: Work, sha256: str) -> None:
        """Forget what is recorded, but not what was asked again for a copy with other prompts."""
        if (work.key, sha256) in self._forgotten:
            return
        keys = [key for key in work.request_keys if (key, sha256) not in self._forgotten]
        self._forgotten |= {(key, sha256) for key in (work.key, *keys)}
        with self._store.write() as connection:
            forget_work(connection, work.key, keys, sha256)

    def _end(self, outcome: Outcome) -> None:
        with self._store.write() as connection:
            record_outcomes(connection, self._run_id, [outcome], overwrite=False)


@dataclass(slots=True)
class _Begun:
    """The work on a video that was begun: what is not committed yet, and how far it is."""

    store: Store
    work: Work
    checkpoint: Checkpoint
    checkpoint_every: int
    asked: int = 0
    _records: list[Record] = field(default_factory=list)
    _linked: list[tuple[RecordedFrame, int]] = field(default_factory=list)
    _frames: int = 0
    _last: Followed | None = None
    _committed: float = field(default_factory=monotonic)

    @property
    def frames(self) -> int:
        """Frames that are done."""
        return self.checkpoint.frames + self._frames

    async def add(self, followed: Followed) -> None:
        """Take a frame that is done, and commit if it is time to."""
        self._last = followed
        self._frames += 1
        self._records += followed.records
        self.asked += followed.is_asked or bool(followed.records)
        if followed.linked is not None:
            self._linked.append(followed.linked)
        is_cheap = followed.state is None and monotonic() - self._committed >= _SOON_S
        is_due = is_cheap or self._frames >= self.checkpoint_every
        if followed.commit is Commit.AT_ONCE or (is_due and followed.commit is Commit.WHEN_DUE):
            await self.commit()

    async def commit(self, *, is_complete: bool = False) -> None:
        """Commit what is not."""
        last = self._last
        if last is None and not is_complete:
            return
        state = None if is_complete or last is None or last.state is None else await last.state()
        next_frame = self.checkpoint.next_frame if last is None else last.at.index + 1
        self.checkpoint = Checkpoint(self.frames, next_frame, is_complete, state)
        records, self._records = self._records, []
        linked, self._linked = self._linked, []
        self._frames = 0
        self._last = None
        await asyncio.to_thread(self._write, records, linked, self.checkpoint)
        # Large, and needed no more.
        self.checkpoint = replace(self.checkpoint, state=None)
        self._committed = monotonic()

    async def commit_what_stands_alone(self) -> None:
        """Commit what is not, if going on needs nothing of a model that is gone by now."""
        last = self._last
        if last is not None and last.state is None and last.commit is not Commit.NOT_YET:
            await self.commit()

    def _write(
        self,
        records: list[Record],
        linked: list[tuple[RecordedFrame, int]],
        checkpoint: Checkpoint,
    ) -> None:
        with self.store.write() as connection:
            if records:
                insert_records(connection, records)
            put_linked(connection, self.work.key, linked)
            put_checkpoint(connection, self.work.key, checkpoint)
