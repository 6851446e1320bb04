"""The tasks: what each asks of a provider for one image, and the records its answers become."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from pixano_cli.annotate.answers import detection_elements, segmentation_elements
from pixano_cli.annotate.identity import Request, inference_id
from pixano_cli.annotate.prompts import Geometry, Prompt
from pixano_cli.annotate.settings import ANSWER_TIMEOUT_S
from pixano_cli.annotate.view import View, answered_geometries
from pixano_cli.inference.embedding import EmbeddingTask
from pixano_cli.inference.errors import InferenceError
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.types import (
    ImageMaskGenerationInput,
    ImageZeroShotDetectionInput,
    InferenceTask,
)
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.ledger import Item, Picture, answers
from pixano_cli.inference_store.models import InferenceAction, NewRegisterModelRequest, TaskType
from pixano_cli.inference_store.records import Record
from pixano_cli.media.capture import NOWHERE, Capture

# Detectors are asked for more than is shown, so that a threshold is applied when writing.
SCORE_FLOOR = 0.05
PROJECT = "pixano-annotate"

# How the inference store names a task and what is done in it.
STORED_AS: Mapping[str, tuple[TaskType, InferenceAction]] = {
    InferenceTask.OBJECT_DETECTION.value: (TaskType.OBJECT_DETECTION, InferenceAction.DETECT),
    InferenceTask.MASK_GENERATION.value: (TaskType.IMAGE_SEGMENTATION, InferenceAction.PREDICT),
    InferenceTask.VIDEO_MASK_GENERATION.value: (
        TaskType.IMAGE_SEGMENTATION,
        InferenceAction.PREDICT,
    ),
    EmbeddingTask.IMAGE_EMBEDDING.value: (TaskType.IMAGE_EMBEDDING, InferenceAction.EMBED),
    # The store has no task that makes text, and takes a model for one task only.
    InferenceTask.TEXT_GENERATION.value: (TaskType.IMAGE_CLASSIFICATION, InferenceAction.PREDICT),
}


@dataclass(frozen=True, slots=True)
class Image:
    """An image at hand: its file, what its bytes say, and the run it is annotated in."""

    item: Item
    picture: Picture
    run_id: str
    capture: Capture = NOWHERE

    @property
    def url(self) -> str:
        """The image string for a provider."""
        return self.item.url


class PartlyAnsweredError(Exception):
    """Of several questions about an image some were answered, and one was not.

    Attributes:
        records: The answers.
        error: What became of the one that was not.
    """

    def __init__(self, records: Sequence[Record], error: InferenceError) -> None:
        """Hold what there is."""
        super().__init__(str(error))
        self.records = records
        self.error = error


class Asking(Protocol):
    """What a run asks."""

    @property
    def name(self) -> str:
        """Name of the command."""

    @property
    def requests(self) -> Sequence[Request]:
        """What it asks, in order."""

    @property
    def registrations(self) -> Sequence[NewRegisterModelRequest]:
        """The models to register before anything is recorded, as far as they are known."""


class Task(Asking, Protocol):
    """What is asked about one image."""

    @property
    def settled_by(self) -> str | None:
        """Key of the request whose answer is all that is asked; None if that depends on more."""

    async def ask(self, image: Image, store: Store, *, again: bool) -> list[Record]:
        """Ask for what the record lacks and return the new records.

        Args:
            image: The image.
            store: The record.
            again: Whether to ask also for what is recorded.

        Raises:
            InferenceError: If the provider fails or answers nonsense.
            PromptError: If a prompt does not fit the image.
            PartlyAnsweredError: If the provider has answered before it failed.
        """


def score_floor(threshold: float) -> float:
    """Return the score to ask a detector for, so that nearby thresholds share one answer."""
    return SCORE_FLOOR if threshold >= SCORE_FLOOR else 0.0


@dataclass(frozen=True, slots=True)
class Detection:
    """Boxes from a detector, within `timeout` seconds.

    `vocabulary` are its classes if it has a set of its own.
    """

    provider: InferenceProvider
    request: Request
    view: View
    vocabulary: frozenset[str] | None
    timeout: float = ANSWER_TIMEOUT_S
    name: str = "detect"

    @property
    def requests(self) -> tuple[Request, ...]:
        """The one request."""
        return (self.request,)

    @property
    def registrations(self) -> tuple[NewRegisterModelRequest, ...]:
        """The detector."""
        return (registration(self.request),)

    @property
    def settled_by(self) -> str | None:
        """Key of the one request."""
        return self.request.key

    async def ask(self, image: Image, store: Store, *, again: bool) -> list[Record]:
        """Ask the detector, unless it has answered."""
        if not again and self.request.key in _answers(store, [self.request.key], image):
            return []
        parameters = self.request.parameters
        result = await self.provider.image_zero_shot_detection(
            ImageZeroShotDetectionInput(
                image=image.url,
                model=self.request.model,
                classes=list(parameters["classes"]),
                box_threshold=parameters["box_threshold"],
                text_threshold=parameters["text_threshold"],
            ),
            timeout=self.timeout,
        )
        elements = detection_elements(result.data, self.vocabulary)
        return [record(image, self.request, elements, said=result.metadata)]


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Masks for prompts, which a detector or a file gives."""

    provider: InferenceProvider
    request: Request
    view: View
    detection: Detection | None
    # A provider keeps the embeddings of as many images as it works on at once, so no more than
    # these are begun: or one with prompts of several kinds would be encoded for each of them.
    at_once: asyncio.Semaphore
    timeout: float = ANSWER_TIMEOUT_S
    name: str = "segment"

    @property
    def requests(self) -> tuple[Request, ...]:
        """The detector's request, where there is one, and the segmenter's."""
        return (*(self.detection.requests if self.detection else ()), self.request)

    @property
    def registrations(self) -> tuple[NewRegisterModelRequest, ...]:
        """The detector, where there is one, and the segmenter."""
        return tuple(map(registration, self.requests))

    @property
    def settled_by(self) -> str | None:
        """Nothing by itself: which masks are wanted depends on the boxes."""
        return None

    async def ask(self, image: Image, store: Store, *, again: bool) -> list[Record]:
        """Ask the detector, unless it has answered, then for the masks that are not recorded.

        Raises:
            PartlyAnsweredError: If there are some answers when the provider fails.
        """
        keys = [request.key for request in self.requests]
        known = {} if again else _answers(store, keys, image)
        records = []
        found: Sequence[Mapping[str, Any]] = ()
        if self.detection is not None:
            key = self.detection.request.key
            if key in known:
                found = known[key]
            else:
                records = await self.detection.ask(image, store, again=True)
                found = records[0].elements or ()
        answered = answered_geometries(known.get(self.request.key, ()))
        missing = [
            prompt
            for prompt in self.view.prompts(image.item, image.picture, found)
            if prompt.geometry not in answered
        ]
        if missing:
            answered_now: dict[Geometry, dict[str, Any]] = {}
            failure: InferenceError | None = None
            try:
                async with self.at_once:
                    await ask_masks(
                        self.provider,
                        self.request,
                        image.url,
                        image.picture,
                        missing,
                        answered_now,
                        self.timeout,
                    )
            except InferenceError as error:
                failure = error
            if answered_now:
                elements = [
                    answered_now[each]
                    for each in dict.fromkeys(prompt.geometry for prompt in missing)
                    if each in answered_now
                ]
                asked = [element["prompt"] for element in elements]
                records.append(record(image, self.request, elements, asked))
            if failure is not None:
                raise PartlyAnsweredError(records, failure) if records else failure
        return records


async def ask_masks(
    provider: InferenceProvider,
    request: Request,
    url: str,
    picture: Picture,
    prompts: Sequence[Prompt],
    elements: dict[Geometry, dict[str, Any]],
    timeout: float,
) -> None:
    """Ask for the mask of each different prompt once; prompts of one kind go in one call.

    What is answered is put into `elements` at once: a later call may fail.
    """
    unique = list({prompt.geometry: prompt for prompt in reversed(prompts)}.values())[::-1]
    kinds: dict[tuple[bool, bool, bool], list[Prompt]] = {}
    for prompt in unique:
        kind = (prompt.box is not None, bool(prompt.points), prompt.is_ambiguous)
        kinds.setdefault(kind, []).append(prompt)
    for call, ((boxes, points, ambiguous), asked) in enumerate(kinds.items()):
        result = await provider.image_mask_generation(
            ImageMaskGenerationInput(
                image=url,
                model=request.model,
                # The later calls are about the same image, which need not be encoded again.
                reset_predictor=call == 0,
                boxes=[list(each.box) for each in asked if each.box] if boxes else None,
                points=[[list(xy) for xy in each.points] for each in asked] if points else None,
                labels=[list(each.labels) for each in asked] if points else None,
                num_multimask_outputs=3,
                multimask_output=ambiguous,
            ),
            timeout=timeout,
        )
        answered = segmentation_elements(result.data, asked, picture)
        elements |= zip((prompt.geometry for prompt in asked), answered, strict=True)


def _answers(store: Store, keys: Sequence[str], image: Image) -> dict[str, list[dict[str, Any]]]:
    """Return what the record holds of an image, by request key."""
    sha256 = image.picture.sha256
    found = {key: answers(store, key, [sha256]) for key in keys}
    return {key: by_digest[sha256] for key, by_digest in found.items() if sha256 in by_digest}


def registration(request: Request, embedding_size: int = 0) -> NewRegisterModelRequest:
    """Return how the model of a request is registered in the store."""
    task_type, _ = STORED_AS[request.task]
    return NewRegisterModelRequest(
        model_id=stored_model(request),
        project_id=PROJECT,
        task_type=task_type,
        embedding_size=embedding_size,
    )


def stored_model(request: Request) -> str:
    """Return the id that the store knows the model of a request by.

    The store takes a model for one task, and one that writes text may find objects as well.
    """
    is_text = request.task == InferenceTask.TEXT_GENERATION.value
    return f"{request.model}#caption" if is_text else request.model


def record(
    image: Image,
    request: Request,
    elements: Sequence[Mapping[str, Any]] | None = None,
    prompts: Sequence[Mapping[str, Any]] | None = None,
    *,
    output: Sequence[Mapping[str, Any]] | None = None,
    embedding: Sequence[float] | None = None,
    said: Mapping[str, Any] | None = None,
) -> Record:
    """Return what is recorded of an answer.

    Args:
        image: The image.
        request: What was asked.
        elements: The answer, where it is elements.
        prompts: What they answer, where that is no part of the request.
        output: The answer, where it is none of the other two.
        embedding: The answer, where it is a vector.
        said: The metadata of the provider's result, of which the usage is kept.
    """
    picture = image.picture
    usage = (said or {}).get("usage")
    used = {"usage": ("json", orjson.dumps(usage).decode())} if usage else {}
    task_type, action = STORED_AS[request.task]
    captured_at = image.capture.captured_at
    captured = {} if captured_at is None else {"captured_at": ("string", captured_at)}
    return Record(
        model_id=stored_model(request),
        inference_id=inference_id(request.key, picture.sha256, prompts),
        task_type=task_type.value,
        inference_action=action.value,
        data_hash=picture.sha256,
        data_size=picture.size,
        elements=elements,
        output=output,
        embedding=embedding,
        data_source=image.item.root,
        latitude=image.capture.latitude,
        longitude=image.capture.longitude,
        request_key=request.key,
        metadata={
            "run_id": ("string", image.run_id),
            "file_name": ("string", image.item.file_name),
            "provider": ("string", request.provider),
            "model_digest": ("string", request.model_digest),
            "parameters": ("json", orjson.dumps(dict(request.parameters)).decode()),
            "width": ("int", str(picture.width)),
            "height": ("int", str(picture.height)),
            "orientation": ("int", str(picture.orientation)),
            **captured,
            **used,
        },
    )


def usage_of(made: Record) -> Mapping[str, int] | None:
    """Return the tokens that were used for a record, as its provider reported them."""
    kept = made.metadata.get("usage")
    return None if kept is None else orjson.loads(kept[1])
