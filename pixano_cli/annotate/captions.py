"""Captions: what is asked of a provider for one, and how they become the outputs of a job."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pixano_cli import formats
from pixano_cli.annotate.identity import Request
from pixano_cli.annotate.outputs import Images, Output, Write
from pixano_cli.annotate.prompts import PromptError
from pixano_cli.annotate.settings import ANSWER_TIMEOUT_S
from pixano_cli.annotate.task import Image, record, registration
from pixano_cli.annotate.template import Template
from pixano_cli.annotations import AnnotatedImage, number
from pixano_cli.inference.errors import InferenceError
from pixano_cli.inference.generation import GenerationInput
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.types import TextImageConditionalGenerationResult
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.ledger import (
    Item,
    Picture,
    answers,
    found_labels,
    pages,
    pictures,
)
from pixano_cli.inference_store.models import NewRegisterModelRequest
from pixano_cli.inference_store.records import Record

# Which of the labels that detectors found a prompt is told of.
LABEL_THRESHOLD = 0.5

_KEPT = ("finish_reason", "reasoning", "logprobs")


@dataclass(frozen=True, slots=True)
class Captioning:
    """A text from a model that sees images.

    Attributes:
        provider: Who is asked.
        request: What is asked.
        template: The prompt.
        timeout: Seconds for an answer.
        name: Name of the command.
    """

    provider: InferenceProvider
    request: Request
    template: Template
    timeout: float = ANSWER_TIMEOUT_S
    name: str = "caption"

    @property
    def requests(self) -> tuple[Request, ...]:
        """The one request."""
        return (self.request,)

    @property
    def registrations(self) -> tuple[NewRegisterModelRequest, ...]:
        """The model."""
        return (registration(self.request),)

    @property
    def settled_by(self) -> str | None:
        """Nothing by itself: it depends on the prompt."""
        return None

    async def ask(self, image: Image, store: Store, *, again: bool) -> list[Record]:
        """Ask for the text, unless it is recorded.

        Raises:
            PromptError: If the prompt names labels and nobody has looked for any.
            InferenceError: If the provider fails or answers nonsense.
        """
        prompt = filled_in(self.template, store, image.item, image.picture)
        sha256 = image.picture.sha256
        if not again:
            known = answers(store, self.request.key, [sha256]).get(sha256, [])
            if any(each["prompt"] == prompt for each in known):
                return []
        parameters = self.request.parameters
        result = await self.provider.text_image_conditional_generation(
            GenerationInput(
                model=self.request.model,
                prompt=prompt["text"],
                images=[image.url],
                max_new_tokens=parameters["max_new_tokens"],
                temperature=parameters["temperature"],
                seed=parameters.get("seed"),
            ),
            timeout=self.timeout,
        )
        answer = {"generated_text": checked_text(result), "prompt": prompt}
        answer |= {name: result.metadata[name] for name in _KEPT if name in result.metadata}
        return [record(image, self.request, None, [prompt], output=[answer], said=result.metadata)]


def checked_text(result: TextImageConditionalGenerationResult) -> str:
    """Check a model's answer and return its text, without the space around it.

    Raises:
        InferenceError: If it is no text that can be kept.
    """
    text = result.data.generated_text
    if not isinstance(text, str):
        raise InferenceError("the model's answer is malformed: no text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InferenceError(
            f"the model's answer is malformed: half a character ({error.reason})"
        ) from error
    # PostgreSQL holds no NUL.
    return text.replace("\0", "").strip()


def filled_in(template: Template, store: Store, item: Item, picture: Picture) -> dict[str, str]:
    """Return the prompt for an image, with the file's name if that is a part of it.

    Raises:
        PromptError: If it names labels and no detector has looked for any.
    """
    values: dict[str, Any] = {
        "file_name": item.file_name,
        "width": picture.width,
        "height": picture.height,
    }
    if "labels" in template.names:
        labels = found_labels(store, picture.sha256, LABEL_THRESHOLD)
        if labels is None:
            raise PromptError(
                "the prompt names {labels} and no detection of this image is in the store: run "
                "`pixano-annotate detect` on it first"
            )
        values["labels"] = ", ".join(labels) or "none"
    prompt = {"text": template.fill_in(values)}
    if "file_name" in template.names:
        prompt["file_name"] = item.file_name
    return prompt


@dataclass(frozen=True, slots=True)
class Captions:
    """Captions as the product of a job; see `outputs.Product`.

    Attributes:
        captioner: Key of the request that asked for them.
        template: The prompt.
    """

    captioner: str
    template: Template

    def to_dict(self) -> dict[str, Any]:
        """Return what is kept of it with a run."""
        view = {"captioner": self.captioner, "prompt": self.template.text}
        return {"view": view, "categories": None}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Captions:
        """Read what `to_dict` made."""
        return cls(kept["view"]["captioner"], Template.parse(kept["view"]["prompt"]))

    def provenance(self) -> dict[str, Any]:
        """Return what outputs say about it."""
        return {"prompt": self.template.text}

    def recorded(self, store: Store, items: Sequence[Item]) -> set[str]:
        """Return the names of those items, of known digest, that the record answers already."""
        known = self._known(store, items)
        names = set()
        for item, picture, texts in known:
            try:
                prompt = filled_in(self.template, store, item, picture)
            except PromptError:
                continue
            if any(each["prompt"] == prompt for each in texts):
                names.add(item.file_name)
        return names

    def images(self, store: Store, run_id: str) -> Iterator[AnnotatedImage]:
        """Yield the images of a run that are done, in order of name.

        Of several texts, which a prompt with labels has after another detection, it is the latest.
        """
        for page in pages(store, run_id, "processed", "cached"):
            for item, picture, texts in self._known(store, page):
                own = [
                    each["generated_text"]
                    for each in texts
                    if each["prompt"].get("file_name", item.file_name) == item.file_name
                ]
                if own:
                    yield AnnotatedImage(
                        file_name=item.file_name,
                        sha256=picture.sha256,
                        width=picture.width,
                        height=picture.height,
                        orientation=picture.orientation,
                        caption=own[-1],
                    )

    def annotations(self, image: AnnotatedImage) -> int:
        """Return 1 for an image that has a text, 0 for one that the model says nothing of."""
        return int(bool(image.caption))

    def writer(self, images: Images[AnnotatedImage]) -> Write[AnnotatedImage]:
        """Return what writes an output."""

        def write(
            output: Output, shown: Iterable[AnnotatedImage], provenance: Mapping[str, Any]
        ) -> None:
            formats.write_captions(output.format, number(shown, ()), output.path, provenance)

        return write

    def _known(
        self, store: Store, items: Sequence[Item]
    ) -> Iterator[tuple[Item, Picture, list[dict[str, Any]]]]:
        digests = [item.sha256 for item in items if item.sha256]
        known = pictures(store, digests)
        found = answers(store, self.captioner, digests)
        for item in items:
            if item.sha256 in known and item.sha256 in found:
                yield item, known[item.sha256], found[item.sha256]
