"""A session with a tracker of this process, each call on one of the provider's threads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Protocol, TypeVar

from pixano_cli.errors import PixanoAnnotateError
from pixano_cli.inference.errors import InferenceError, InvalidRequestError
from pixano_cli.inference.providers.loading import LocalModel, one_line
from pixano_cli.inference.video import VideoSession
from pixano_cli.models.base import RGBImage
from pixano_cli.models.tracking import (
    ObjectMask,
    ObjectPrompt,
    StreamingTrackingModel,
    TrackingSession,
)

T = TypeVar("T")


class InThread(Protocol):
    """Runs a job on a thread of the provider."""

    def __call__(self, job: Callable[[], T], /) -> Awaitable[T]: ...


async def open_session(
    model: LocalModel,
    width: int,
    height: int,
    state: bytes | None,
    length: int | None,
    in_thread: InThread,
) -> VideoSession | None:
    """Begin with a video, or go on; None where the model takes all frames at once.

    The model stays loaded until the session is closed.

    Raises:
        ModelError: If it cannot be loaded, or the state is not one of it.
    """
    if not issubclass(model.model_class, StreamingTrackingModel):
        return None
    until_closed = ExitStack()

    def open_it() -> TrackingSession:
        with ExitStack() as opening:
            loaded: Any = opening.enter_context(model.in_use())
            begin = partial(loaded.open_session, width, height, state, length=length)
            session: TrackingSession = _told(model, begin)
            opening.callback(session.close)
            until_closed.push(opening.pop_all())
        return session

    return LocalSession(model, await in_thread(open_it), until_closed, in_thread)


class LocalSession(VideoSession):
    """A tracker's session."""

    def __init__(
        self,
        model: LocalModel,
        session: TrackingSession,
        until_closed: ExitStack,
        in_thread: InThread,
    ) -> None:
        self._model = model
        self._session = session
        self._until_closed = until_closed
        self._in_thread = in_thread

    async def condition(
        self, frame: int, image: RGBImage, prompts: Sequence[ObjectPrompt]
    ) -> Mapping[int, ObjectMask]:
        """Prompt objects in a frame; see `VideoSession`."""
        return await self._ask(self._session.condition, frame, image, prompts)

    async def step(self, frame: int, image: RGBImage) -> Mapping[int, ObjectMask]:
        """Go on to the next frame; see `VideoSession`."""
        return await self._ask(self._session.step, frame, image)

    async def forget(self, objects: Collection[int]) -> None:
        """Follow these objects no more."""
        await self._ask(self._session.forget, objects)

    async def state(self) -> bytes:
        """Return all that is needed to go on; see `VideoSession`."""
        return await self._ask(self._session.state)

    async def aclose(self) -> None:
        """Free what the session holds."""
        await self._in_thread(self._until_closed.close)

    async def _ask(self, method: Callable[..., T], *given: Any) -> T:
        return await self._in_thread(partial(_told, self._model, method, *given))


def _told(model: LocalModel, method: Callable[..., T], *given: Any) -> T:
    """Call a plugin's code, whose errors are told as those of the model."""
    try:
        return method(*given)
    except PixanoAnnotateError:
        raise
    except ValueError as error:
        raise InvalidRequestError(f"model {model.name!r} cannot be asked: {error}") from error
    except Exception as error:
        raise InferenceError(f"model {model.name!r} failed: {one_line(error)}") from error
