"""How the tests ask a remote provider, and the pictures that they send."""

import asyncio
import base64
import io
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from pixano_cli.inference import get_provider
from pixano_cli.inference.embedding import ImageEmbeddingInput, ImageEmbeddingResult
from pixano_cli.inference.provider import InferenceProvider

T = TypeVar("T")

KEY = "sk-planted-0123456789abcdef"


def ask(
    name: str, url: str, question: Callable[[InferenceProvider], Awaitable[T]], **options: Any
) -> T:
    """Ask a provider that is made and closed around the question."""

    async def run() -> T:
        provider = get_provider(name, url=url, pace=0.02, **options)
        try:
            return await question(provider)
        finally:
            await provider.aclose()

    return asyncio.run(run())


def embed(
    provider: InferenceProvider, model: str = "m", image: str | None = None, timeout: float = 10.0
) -> Awaitable[ImageEmbeddingResult]:
    """Ask for an image's vector."""
    request = ImageEmbeddingInput(image=image or data_url(png()), model=model)
    return provider.image_embedding(request, timeout)


def png(width: int = 6, height: int = 4, mode: str = "RGB") -> bytes:
    """Return a picture in which no two neighbours are alike."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    values = (np.arange(width * height * bands) * 7 % 251).astype(np.uint8)
    shape = (height, width) if bands == 1 else (height, width, bands)
    return encoded(Image.fromarray(values.reshape(shape)), "PNG")


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return an image as a file of a kind."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def data_url(data: bytes, kind: str = "image/png") -> str:
    """Return bytes as a data URL."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
