"""Vectors: what is asked of a provider for one, and how they become the outputs of a job."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixano_cli.annotate.identity import Request
from pixano_cli.annotate.outputs import Images, Output, Write
from pixano_cli.annotate.settings import ANSWER_TIMEOUT_S
from pixano_cli.annotate.task import Image, record, registration
from pixano_cli.formats.embeddings import EmbeddedImage, write_embeddings
from pixano_cli.inference.embedding import ImageEmbeddingInput, ImageEmbeddingOutput
from pixano_cli.inference.errors import InferenceError
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.ledger import Item, answered_digests, pages, pictures, vectors
from pixano_cli.inference_store.models import NewRegisterModelRequest
from pixano_cli.inference_store.records import Record
from pixano_cli.inference_store.register import put_model, registered_size

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(slots=True)
class Embedding:
    """A vector from an embedding model.

    Attributes:
        provider: Who is asked.
        request: What is asked.
        size: Numbers in a vector. None if the provider cannot tell: then it is what the model is
            registered with, or else what it answers first.
        timeout: Seconds for an answer.
        name: Name of the command.
    """

    provider: InferenceProvider
    request: Request
    size: int | None
    timeout: float = ANSWER_TIMEOUT_S
    name: str = "embed"
    _registering: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def requests(self) -> tuple[Request, ...]:
        """The one request."""
        return (self.request,)

    @property
    def registrations(self) -> tuple[NewRegisterModelRequest, ...]:
        """The model, if the size of its vectors is known."""
        return () if self.size is None else (registration(self.request, self.size),)

    @property
    def settled_by(self) -> str | None:
        """Key of the one request."""
        return self.request.key

    async def ask(self, image: Image, store: Store, *, again: bool) -> list[Record]:
        """Ask for the vector, unless it is recorded.

        Raises:
            InferenceError: If the provider fails or answers nonsense.
            StoreError: If the model is registered for another task.
        """
        sha256 = image.picture.sha256
        if not again and answered_digests(store, self.request.key, [sha256]):
            return []
        result = await self.provider.image_embedding(
            ImageEmbeddingInput(image=image.url, model=self.request.model),
            timeout=self.timeout,
        )
        vector = checked_vector(result.data)
        async with self._registering:
            if self.size is None:
                self.size = await asyncio.to_thread(self._register, store, len(vector))
        if len(vector) != self.size:
            raise InferenceError(
                f"the model's answer is malformed: a vector of {len(vector)} numbers, where "
                f"{self.size} are recorded of it: if it is another model now, use another store"
            )
        return [record(image, self.request, embedding=vector, said=result.metadata)]

    def _register(self, store: Store, size: int) -> int:
        """Register the model with this size, if it is not with another; return which."""
        with store.write() as connection:
            size = registered_size(connection, self.request.model) or size
            put_model(connection, registration(self.request, size))
        return size


def checked_vector(output: ImageEmbeddingOutput) -> list[float]:
    """Check an embedding model's answer and return its vector.

    Raises:
        InferenceError: If it is empty, or holds something else than numbers that a float32 can
            hold.
    """
    try:
        vector = np.asarray(output.embedding)
    except ValueError as error:
        raise InferenceError(f"the model's answer is malformed: {error}") from error
    if vector.ndim != 1 or not vector.size or vector.dtype.kind not in "iuf":
        raise InferenceError("the model's answer is malformed: not one vector of numbers")
    numbers = vector.astype(np.float64)
    # Not the other way round: a NaN is not smaller than anything.
    if not (np.abs(numbers) <= _LARGEST).all():
        raise InferenceError("the model's answer is malformed: a number that is not finite")
    checked: list[float] = numbers.tolist()
    return checked


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors as the product of a job; see `outputs.Product`.

    Attributes:
        embedder: Key of the request that asked for them.
        size: Numbers in a vector; None if that was not known before the first.
    """

    embedder: str
    size: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return what is kept of it with a run."""
        return {"view": {"embedder": self.embedder, "size": self.size}, "categories": None}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Embeddings:
        """Read what `to_dict` made."""
        return cls(kept["view"]["embedder"], kept["view"]["size"])

    def provenance(self) -> dict[str, Any]:
        """Return what outputs say about it."""
        return {"vectors": "as the model gives them, not scaled to length 1"}

    def recorded(self, store: Store, items: Sequence[Item]) -> set[str]:
        """Return the names of those items, of known digest, that the record answers already."""
        digests = [item.sha256 for item in items if item.sha256]
        known = answered_digests(store, self.embedder, digests)
        return {item.file_name for item in items if item.sha256 in known}

    def images(self, store: Store, run_id: str) -> Iterator[EmbeddedImage]:
        """Yield the images of a run that are done, in order of name."""
        for page in pages(store, run_id, "processed", "cached"):
            digests = [item.sha256 for item in page if item.sha256]
            known = pictures(store, digests)
            found = vectors(store, self.embedder, digests)
            for item in page:
                picture = known.get(item.sha256 or "")
                if picture is not None and picture.sha256 in found:
                    yield EmbeddedImage(
                        file_name=item.file_name,
                        sha256=picture.sha256,
                        width=picture.width,
                        height=picture.height,
                        orientation=picture.orientation,
                        embedding=_float32(found[picture.sha256]),
                    )

    def annotations(self, image: EmbeddedImage) -> int:
        """Return 1: every image that is done has its vector."""
        return 1

    def writer(self, images: Images[EmbeddedImage]) -> Write[EmbeddedImage]:
        """Return what writes an output, which is Parquet."""

        def write(
            output: Output, shown: Iterable[EmbeddedImage], provenance: Mapping[str, Any]
        ) -> None:
            write_embeddings(shown, output.path, self.size, provenance)

        return write


def _float32(vector: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the numbers as the models make them; JSON has let them become doubles on the way."""
    return vector.astype(np.float32)
