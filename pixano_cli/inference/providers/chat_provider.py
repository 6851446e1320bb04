"""What all providers of models that talk have in common: text, boxes by asking for them, repair."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from uuid import uuid4

import orjson

from pixano_cli.inference.embedding import AnyTask
from pixano_cli.inference.errors import (
    InferenceError,
    InvalidRequestError,
    TaskNotSupportedError,
)
from pixano_cli.inference.provider import ModelDescription
from pixano_cli.inference.providers import grounding
from pixano_cli.inference.providers.chat import Asked, Picture, Utterance, asked_again, asked_of
from pixano_cli.inference.providers.chat_answers import (
    LENGTH,
    Said,
    UnreadableError,
    check_said,
    failure,
    read_json,
    summed,
)
from pixano_cli.inference.providers.conventions import (
    AUTO,
    UNKNOWN,
    Convention,
    Profile,
    convention_of,
    profile_of,
)
from pixano_cli.inference.providers.grounding import Grounding
from pixano_cli.inference.providers.http import Answer
from pixano_cli.inference.providers.remote import RemoteProvider
from pixano_cli.inference.types import (
    ImageZeroShotDetectionInput,
    ImageZeroShotDetectionOutput,
    ImageZeroShotDetectionResult,
    InferenceTask,
    TextImageConditionalGenerationInput,
    TextImageConditionalGenerationOutput,
    TextImageConditionalGenerationResult,
    UsageInfo,
)

ReadT = TypeVar("ReadT")

_TALKS = (InferenceTask.TEXT_GENERATION, InferenceTask.OBJECT_DETECTION)


class ChatProvider(RemoteProvider):
    """A provider of vision-language models, whose server has a chat of some kind.

    An answer that is to be JSON and cannot be read is answered once more, with the fault told;
    what both cost is the usage of the result, or of the error.
    """

    tasks: ClassVar[tuple[InferenceTask, ...]] = _TALKS

    _assumes = False

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
        boxes: str = AUTO,
    ) -> None:
        """Make the provider; nothing is sent yet.

        Args:
            url: As for every remote provider, like what follows; see `RemoteProvider`.
            api_key_file: See there.
            concurrency: See there.
            rpm: See there.
            tpm: See there.
            max_side: See there.
            tries: See there.
            pace: See there.
            boxes: The convention in which models give boxes, by its name; "auto" goes by the
                model's name and, where that tells nothing, asks the model about a picture with
                known shapes before anything else.

        Raises:
            UsageError: If a value is out of range, the URL is no server's, there is no such
                convention, or the key cannot be had.
        """
        self._boxes = convention_of(boxes)
        super().__init__(
            url,
            api_key_file=api_key_file,
            concurrency=concurrency,
            rpm=rpm,
            tpm=tpm,
            max_side=max_side,
            tries=tries,
            pace=pace,
        )

    @abstractmethod
    async def _say(self, asked: Asked, timeout: float) -> Said:
        """Ask the model once; all pictures are data URLs.

        Raises:
            InferenceError: If there is no answer. One that says nothing, or refuses, is an answer.
        """

    @abstractmethod
    async def _check_model(self, model: str) -> None:
        """Check that the server has a model, if it tells which it has.

        Raises:
            ModelNotFoundError: If it has others only.
        """

    async def describe_model(
        self, model_name: str, task: AnyTask | None = None
    ) -> ModelDescription:
        """Tell that a model is there; whether it can do a task shows when it is asked.

        For detection the convention of its boxes is among the parameters. Where that has to be
        found out, the model is asked about one small picture.

        Raises:
            ModelNotFoundError: If the server lists others only.
            TaskNotSupportedError: If no convention can be found in its boxes.
        """
        await self._check_model(model_name)
        parameters: dict[str, Any] = {}
        if self._max_side is not None:
            parameters["max_side"] = self._max_side
        if task is InferenceTask.OBJECT_DETECTION:
            profile, convention = await self._boxes_of(model_name)
            parameters |= {"boxes": convention.name, "grounding": grounding.VERSION}
            if profile.convention != convention:
                parameters["boxes_asked"] = profile.convention.name
        does = task if task in _TALKS and task is not None else InferenceTask.TEXT_GENERATION
        return ModelDescription(model_name, does, parameters=parameters)

    async def text_image_conditional_generation(
        self, input_data: TextImageConditionalGenerationInput, timeout: float = 60.0
    ) -> TextImageConditionalGenerationResult:
        """Return what a model says to a prompt and images.

        With a schema (`GenerationInput`) the text is JSON that fits it. An answer that is cut off
        at `max_new_tokens` is returned as it is, with "length" as the metadata's `finish_reason`,
        unless it is to fit a schema.

        Raises:
            MediaError: If an image cannot be read or decoded.
            ModelNotFoundError: If the server has no model of the name.
            InvalidRequestError: If the prompt has no documented form, or the server refuses it.
            InferenceTimeoutError: If there is no result in time.
            InferenceError: If the model refuses, says nothing, or not what fits the schema.
        """
        asked = asked_of(input_data)
        sendable = await self._with_pictures(asked)
        schema = asked.schema

        def as_asked(text: str) -> str:
            if schema is None:
                return text
            try:
                return orjson.dumps(read_json(text, schema)).decode()
            except TypeError as error:  # a number beyond 64 bits, half of a surrogate pair
                raise UnreadableError(str(error)) from None

        text, said = await self._answer(sendable, as_asked, timeout)
        config: dict[str, Any] = {
            "max_new_tokens": asked.max_tokens,
            "temperature": asked.temperature,
        }
        if asked.seed is not None:
            config["seed"] = asked.seed
        usage = UsageInfo(**(said.usage or dict.fromkeys(UsageInfo.__dataclass_fields__, 0)))
        return TextImageConditionalGenerationResult(
            data=TextImageConditionalGenerationOutput(text, usage, config),
            timestamp=datetime.now(UTC),
            processing_time=said.seconds,
            metadata=_metadata(said),
            id=uuid4().hex,
        )

    async def image_zero_shot_detection(
        self, input_data: ImageZeroShotDetectionInput, timeout: float = 60.0
    ) -> ImageZeroShotDetectionResult:
        """Detect objects by asking a model for their boxes; see `grounding` for what is read.

        Boxes are clipped to the image. The metadata tell the convention they came in (`boxes`),
        how many reached over the edge (`clipped`) and how many had no area (`dropped`).

        Raises:
            MediaError: If the image cannot be read or decoded.
            ModelNotFoundError: If the server has no model of the name.
            InvalidRequestError: If no classes are named, or the server refuses the request.
            InferenceTimeoutError: If there is no result in time.
            InferenceError: If the answer cannot be read, or its boxes fit the image in another
                convention only.
        """
        model = input_data.model
        classes = grounding.named(input_data.classes)
        _, convention = await self._boxes_of(model)
        answer = await self.ground(input_data.image, model, classes, timeout)
        placed = grounding.place(answer, convention)
        found = [each for each in placed.found if each.score >= input_data.box_threshold]
        counts = {"clipped": placed.clipped, "dropped": placed.dropped}
        return ImageZeroShotDetectionResult(
            data=ImageZeroShotDetectionOutput(
                boxes=[list(each.numbers) for each in found],
                scores=[each.score for each in found],
                classes=[grounding.asked_label(each.label, classes) for each in found],
            ),
            timestamp=datetime.now(UTC),
            processing_time=answer.said.seconds,
            metadata={
                **_metadata(answer.said),
                "boxes": convention.name,
                **{name: count for name, count in counts.items() if count},
            },
            id=uuid4().hex,
        )

    async def ground(
        self, image: str, model: str, classes: Sequence[str], timeout: float = 60.0
    ) -> Grounding:
        """Ask for the boxes of objects and return them as the model gives them, not in pixels.

        Raises:
            InferenceError: As `image_zero_shot_detection` does, but for boxes that do not fit.
        """
        if not classes:
            raise InvalidRequestError(
                f"model {model!r} has no classes of its own: say with --classes what to look for"
            )
        outgoing = await self._outgoing(image)
        sent = (outgoing.width, outgoing.height)
        profile = self._profile(model)
        asked = grounding.question(model, outgoing.url, classes, profile, sent)
        found, said = await self._answer(asked, grounding.read_boxes, timeout)
        return Grounding(found, sent, outgoing.displayed, profile, said)

    def convention(self, model: str) -> Convention | None:
        """Return the convention that a model's boxes are read in; None if it is to be found."""
        if self._boxes is not None:
            return self._boxes
        profile = profile_of(model)
        return self._found.get(model) if profile is None else profile.convention

    def remember(self, model: str, convention: str) -> None:
        """Read a model's boxes in the convention that was once found, by its name.

        Raises:
            UsageError: If there is no such convention.
        """
        known = convention_of(convention)
        if known is not None:
            self._found[model] = known

    def assume(self) -> None:
        """Take the boxes of an unknown model to be as asked for, without a check that may cost."""
        self._assumes = True

    @cached_property
    def _found(self) -> dict[str, Convention]:
        """The conventions that were found by asking, by model."""
        return {}

    @cached_property
    def _finding(self) -> asyncio.Lock:
        return asyncio.Lock()

    def _profile(self, model: str) -> Profile:
        known = profile_of(model) or UNKNOWN
        return known if self._boxes is None else replace(known, convention=self._boxes)

    async def _boxes_of(self, model: str) -> tuple[Profile, Convention]:
        """Return how a model is asked for boxes, and how its boxes are read."""
        async with self._finding:
            convention = self.convention(model)
            if convention is None and self._assumes:
                convention = self._profile(model).convention
            if convention is None:
                # The check asks a provider, so it stands above; it is for few models only.
                from pixano_cli.inference.check import check_provider

                report = await check_provider(self, model)
                convention = None if report.found is None else convention_of(report.found)
                if convention is None:
                    error = TaskNotSupportedError(report.explanation)
                    error.usage = report.usage or None
                    raise error
                self._found[model] = convention
        return self._profile(model), convention

    async def _post(
        self, path: str, body: Any, asked: Asked, timeout: float, heed: Collection[int]
    ) -> Answer:
        """Ask with POST, counting what the answer may take against the tokens a minute."""
        answer = await self._server.post(
            path, body, timeout=timeout, heed=heed, tokens=asked.tokens
        )
        if not answer.is_success:
            self._server.count_tokens(-asked.tokens)
        return answer

    def _counted(self, said: Said, asked: Asked) -> Said:
        """Return what is said, after counting what it has really taken."""
        if said.usage:
            self._server.count_tokens(said.usage["total_tokens"] - asked.tokens)
        return said

    async def _with_pictures(self, asked: Asked) -> Asked:
        """Return what is asked with each picture as it is sent."""
        sent = {
            picture: Picture((await self._outgoing(picture.url)).url)
            for picture in dict.fromkeys(asked.pictures)
        }
        talk = tuple(
            Utterance(
                each.role,
                tuple(sent[part] if isinstance(part, Picture) else part for part in each.parts),
            )
            for each in asked.talk
        )
        return replace(asked, talk=talk)

    async def _answer(
        self, asked: Asked, read: Callable[[str], ReadT], timeout: float
    ) -> tuple[ReadT, Said]:
        """Ask, and once more if the answer cannot be read, both within the time limit.

        What is waited for a turn is not the answer's time.
        """
        first = await self._say(asked, timeout)
        check_said(first, asked.max_tokens)
        try:
            return read(first.text), first
        except UnreadableError as error:
            _check_whole(first, asked)
            again = asked_again(asked, first.text, str(error))
        try:
            second = await self._say(again, max(0.001, timeout - first.seconds))
        except InferenceError as error:
            error.usage = summed(first.usage, error.usage) or None
            raise
        both = replace(
            second,
            usage=summed(first.usage, second.usage),
            seconds=first.seconds + second.seconds,
        )
        check_said(both, asked.max_tokens)
        try:
            return read(both.text), both
        except UnreadableError as error:
            _check_whole(both, asked)
            raise failure(
                both, f"gives an answer that cannot be read, also when asked again: {error}"
            ) from error


def _check_whole(said: Said, asked: Asked) -> None:
    """Raise the error for an answer that was cut off: asking again would cut it off again."""
    if said.finish == LENGTH:
        raise failure(
            said,
            f"was cut off after {asked.max_tokens} tokens, in the middle of its JSON: allow more "
            "new tokens, or ask for less at once",
        )


def _metadata(said: Said) -> dict[str, Any]:
    told: Mapping[str, Any] = {
        "usage": dict(said.usage),
        "model": said.model,
        "reasoning": said.reasoning,
        "logprobs": said.logprob,
        "finish_reason": said.finish,
    }
    return {name: value for name, value in told.items() if value not in (None, "", {})}
