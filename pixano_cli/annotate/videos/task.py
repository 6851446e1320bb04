"""What is asked about a video, and what an answer about one of its frames is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Protocol

from pixano_cli.annotate.identity import Request, inference_id
from pixano_cli.annotate.task import Asking
from pixano_cli.annotate.videos.at_hand import FrameAtHand, VideoAtHand
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.frames import Checkpoint, RecordedFrame, count_frames, count_linked
from pixano_cli.inference_store.ledger import Item
from pixano_cli.inference_store.records import Record


@dataclass(frozen=True, slots=True)
class Work:
    """All that is wanted of one video.

    Attributes:
        key: What it is known by; the same for the same frames, objects and requests.
        request: What is asked of the last model, with what is asked of this video only.
        request_keys: What the answers about its frames are known by.
    """

    key: str
    request: Request
    request_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is wanted of every video.

    Attributes:
        request: What is asked of the last model, with all that the outcome depends on, but for the
            objects that are named in the one video.
        request_keys: What answers about frames are known by, of any video.
        answers_itself: Whether the request is one that a model answers, for each frame; if not, the
            objects are linked here, and the last of `request_keys` is that of their masks.
    """

    request: Request
    request_keys: tuple[str, ...]
    answers_itself: bool = False

    def work(self, item: Item, sha256: str) -> Work:
        """Return what is wanted of one video."""
        parameters = {**self.request.parameters, "objects": item.prompts}
        request = replace(self.request, parameters=parameters)
        own = (request.key,) if self.answers_itself else ()
        return Work(inference_id(request.key, sha256), request, (*self.request_keys, *own))

    def to_dict(self) -> dict[str, Any]:
        """Return what is kept of it with a run."""
        return {
            "request": self.request.to_dict(),
            "request_keys": list(self.request_keys),
            "answers_itself": self.answers_itself,
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Plan:
        """Read what `to_dict` made."""
        return cls(Request(**kept["request"]), tuple(kept["request_keys"]), kept["answers_itself"])


def count_recorded(store: Store, plan: Plan, work: Work, sha256: str) -> int:
    """Return how many frames of a video have all that is wanted of them."""
    if plan.answers_itself:
        return count_frames(store, work.request_keys[-1], sha256)
    return count_linked(store, work.key, work.request_keys[-1], sha256)


class Commit(Enum):
    """Whether what was answered can be committed up to a frame."""

    NOT_YET = "not yet"
    """There is no going on after this frame: it is committed with a later one."""
    WHEN_DUE = "when due"
    """As often as is wanted."""
    AT_ONCE = "at once"
    """There is no going on after the next frames."""


@dataclass(frozen=True, slots=True)
class Followed:
    """What became of a frame.

    Attributes:
        at: The frame.
        records: What is to be recorded of answers; none if all are recorded.
        linked: The objects in it, and how many of them have a mask, where no model says so.
        state: Gives what the model needs to go on after this frame; None where it needs nothing.
        commit: Whether it can be the last frame of a commit.
        is_asked: Whether a model was asked about it whose answers are committed already.
    """

    at: FrameAtHand
    records: tuple[Record, ...] = ()
    linked: tuple[RecordedFrame, int] | None = None
    state: Callable[[], Awaitable[bytes]] | None = None
    commit: Commit = Commit.WHEN_DUE
    is_asked: bool = False


class VideoTask(Asking, Protocol):
    """What is asked about each video."""

    @property
    def checkpoint_every(self) -> int:
        """After how many frames what was answered is committed, at the latest."""

    @property
    def plan(self) -> Plan:
        """What is wanted of every video."""

    def follow(
        self, video: VideoAtHand, work: Work, store: Store, checkpoint: Checkpoint | None
    ) -> AsyncGenerator[Followed, None]:
        """Yield the frames that are not known to be recorded, in order, as they are done.

        Args:
            video: The video.
            work: What is wanted of it.
            store: The record.
            checkpoint: How far the work is; None if it was not begun.

        Raises:
            VideoError: If the video is damaged, after the frames that could be read.
            InferenceError: If the provider fails or answers nonsense.
            PromptError: If a prompt does not fit the video.
        """
