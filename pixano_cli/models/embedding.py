"""Vectors of images or texts: the contract between an embedding model and its callers."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from pixano_cli.models.base import InferenceModel, RGBImage


class EmbeddingInput(BaseModel):
    """Input for embedding: one image or text, or a list; images or texts, never both.

    Attributes:
        image: Pixels [height, width, 3], RGB uint8, as displayed; this is what the local provider
            hands over. A model may also accept a path or URL from other callers.
        text: Text to embed, by a model that puts text and images into one space.
        normalize: Whether to scale each vector to length 1.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    image: list[RGBImage | str | Path] | RGBImage | str | Path | None = None
    text: list[str] | str | None = None
    normalize: bool = True

    @model_validator(mode="after")
    def _either(self) -> Self:
        if (self.image is None) == (self.text is None):
            raise ValueError("give either image or text")
        return self


class EmbeddingOutput(BaseModel):
    """Output for embedding.

    Attributes:
        embeddings: Vectors [num_inputs, dim], in the order of the inputs.
        dim: Length of a vector.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    embeddings: NDArray[np.float32]
    dim: int


class EmbeddingModel(InferenceModel[EmbeddingInput, EmbeddingOutput]):
    """Base class for embedding models.

    `input_size` is a (width, height) in pixels below which the model would miss something. A large
    JPEG may then be decoded at a reduced scale that is no smaller in either direction, which is
    much faster; None asks for every pixel.
    """

    capability_name: ClassVar[str | None] = "embedding"
    input_size: ClassVar[tuple[int, int] | None] = None
