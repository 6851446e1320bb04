"""A video as it is followed a frame at a time: what a provider may offer beyond the interface.

The published interface takes all frames of a video at once, which is why a long one is cut into
windows. Where the model is in this process, and takes them one by one, nothing has to be cut.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pixano_cli.models.base import RGBImage
    from pixano_cli.models.tracking import ObjectMask, ObjectPrompt


class VideoSession(ABC):
    """Objects followed through one video; see `pixano_cli.models.tracking.TrackingSession`.

    One method at a time may be under way. Each may raise any error of
    `pixano_cli.inference.errors`.
    """

    @abstractmethod
    async def condition(
        self, frame: int, image: RGBImage, prompts: Sequence[ObjectPrompt]
    ) -> Mapping[int, ObjectMask]:
        """Prompt objects in a frame; return what they look like there, by object."""

    @abstractmethod
    async def step(self, frame: int, image: RGBImage) -> Mapping[int, ObjectMask]:
        """Go on to the next frame; return all objects that are followed, by object."""

    @abstractmethod
    async def forget(self, objects: Collection[int]) -> None:
        """Follow these objects no more."""

    @abstractmethod
    async def state(self) -> bytes:
        """Return all that is needed to go on after the frame that was stepped to last."""

    @abstractmethod
    async def aclose(self) -> None:
        """Free what the session holds."""
