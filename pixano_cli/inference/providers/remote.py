"""What all providers that ask a server have in common."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pixano_cli.errors import UsageError
from pixano_cli.inference.errors import (
    InferenceError,
    ModelNotFoundError,
    TaskNotSupportedError,
    choices,
)
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.providers.http import ANSWER_LIMIT, Answer, HttpServer, base_url
from pixano_cli.inference.providers.keys import find_key
from pixano_cli.inference.providers.outgoing import Outgoing, outgoing_soon
from pixano_cli.inference.types import (
    ImageMaskGenerationInput,
    ImageMaskGenerationResult,
    ImageZeroShotDetectionInput,
    ImageZeroShotDetectionResult,
    InferenceTask,
    ProviderCapabilities,
    TextImageConditionalGenerationInput,
    TextImageConditionalGenerationResult,
    VideoMaskGenerationInput,
    VideoMaskGenerationResult,
)

ShapeT = TypeVar("ShapeT")

LONGEST_VECTOR = 65_536
"""Most numbers of an embedding that are accepted."""

LOOK_TIMEOUT_S = 30.0
"""Time limit for questions about the server itself."""

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Vector = Annotated[list[Number], Field(min_length=1, max_length=LONGEST_VECTOR)]


class Wire(BaseModel):
    """Part of a server's answer: what is named here is checked, the rest is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class RemoteProvider(InferenceProvider):
    """A provider that asks a server over HTTP; see `HttpServer` for what holds for all of them.

    It belongs to the event loop that it is first used in. Any number of coroutines may ask it at
    once.
    """

    variable: ClassVar[str]
    """Environment variable that holds the key."""

    default_url: ClassVar[str]
    """Address of the server, unless told otherwise."""

    default_path: ClassVar[str] = ""
    """Path of the server where its address has none."""

    key_header: ClassVar[str] = "Authorization"
    """Header that carries the key: as "Bearer KEY" in Authorization, alone in any other."""

    health_path: ClassVar[str] = "/health"
    """What is asked of a server that has gone, from its URL on, until it is back."""

    answer_limit: ClassVar[int] = ANSWER_LIMIT
    """Most bytes of an answer that are read."""

    tasks: ClassVar[tuple[InferenceTask, ...]] = ()
    """Published tasks that this version does."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key_file: str | Path | None = None,
        concurrency: int | None = None,
        rpm: float | None = None,
        tpm: float | None = None,
        max_side: int | None = None,
        tries: int = 5,
        pace: float = 0.5,
    ) -> None:
        """Make the provider; nothing is sent yet.

        Args:
            url: Address of the server; by default that of `default_url`.
            api_key_file: File that holds the key, in place of the environment variable.
            concurrency: Most requests under way at once, and how many to begin with; None for as
                many as the server keeps up with, from 16 up to 64.
            rpm: Most requests a minute; None for as many as the server bears.
            tpm: Most tokens a minute, as far as they can be told before; None for any number.
            max_side: Longest side of an image that is sent, in pixels; None sends all of it.
            tries: How often a request is sent at most.
            pace: Longest first wait between two tries, in seconds.

        Raises:
            UsageError: If a value is out of range, the URL is no server's, or the key cannot be
                had.
        """
        limits = {"concurrency": concurrency, "rpm": rpm, "tpm": tpm, "max side": max_side}
        for option, value in limits.items():
            if value is not None and value < 1:
                raise UsageError(f"{option} must be at least 1, not {value}")
        self._max_side = max_side
        self._server = HttpServer(
            base_url(url or self.default_url, self.default_path),
            key=find_key(self.variable, api_key_file),
            variable=self.variable,
            key_header=self.key_header,
            concurrency=concurrency,
            rpm=rpm,
            tpm=tpm,
            health=self.health_path,
            answer_limit=self.answer_limit,
            tries=tries,
            pace=pace,
        )

    async def get_capabilities(self) -> ProviderCapabilities:
        """Return the published tasks that this version does."""
        return ProviderCapabilities(tasks=list(self.tasks))

    async def image_mask_generation(
        self, input_data: ImageMaskGenerationInput, timeout: float = 60.0
    ) -> ImageMaskGenerationResult:
        """Raise TaskNotSupportedError."""
        raise self._gives_no("masks")

    async def image_zero_shot_detection(
        self, input_data: ImageZeroShotDetectionInput, timeout: float = 60.0
    ) -> ImageZeroShotDetectionResult:
        """Raise TaskNotSupportedError."""
        raise self._gives_no("boxes")

    async def text_image_conditional_generation(
        self, input_data: TextImageConditionalGenerationInput, timeout: float = 60.0
    ) -> TextImageConditionalGenerationResult:
        """Raise TaskNotSupportedError."""
        raise self._gives_no("text")

    async def video_mask_generation(
        self, input_data: VideoMaskGenerationInput, timeout: float = 120.0
    ) -> VideoMaskGenerationResult:
        """Raise TaskNotSupportedError."""
        raise self._gives_no("tracks")

    def hold_back(self) -> None:
        """Send nothing new: what waits for its turn, or for the server, raises NotSentError."""
        self._server.hold_back()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._server.aclose()

    def _gives_no(self, what: str) -> TaskNotSupportedError:
        return TaskNotSupportedError(
            f"provider {self.name!r} gives no {what}: use another with --provider"
        )

    async def _outgoing(self, image: str) -> Outgoing:
        return await outgoing_soon(image, self._max_side)

    def _no_such_model(self, model: str, names: Iterable[str]) -> ModelNotFoundError:
        return ModelNotFoundError(
            f"{self._server.url} has no model {model!r}: {choices(model, names)}"
        )


def read(shape: TypeAdapter[ShapeT], answer: Answer) -> ShapeT:
    """Return an answer in the shape that is documented.

    Raises:
        InferenceError: If it has another.
    """
    try:
        return shape.validate_python(answer.value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"][:4])) or "the answer"
        raise malformed(answer, f"{place}: {first['msg']}") from None


def malformed(answer: Answer, how: str) -> InferenceError:
    """Return the error for an answer that has not the documented shape."""
    return InferenceError(
        f"{answer.where} answers otherwise than documented ({how}): check the URL and the model"
    )
