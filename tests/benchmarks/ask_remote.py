"""Ask a server for the vectors of as many images as wanted, and tell how long that took.

`python ask_remote.py URL REQUESTS [CONCURRENCY]` prints JSON: seconds, and processor seconds of
this process.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
from time import perf_counter, process_time

from PIL import Image

from pixano_cli.inference import get_provider
from pixano_cli.inference.embedding import ImageEmbeddingInput
from pixano_cli.inference.providers.openai import OpenAIProvider

# More than are ever under way: how many are is for the provider to say.
WORKERS = 72


async def ask(url: str, count: int, concurrency: int | None = None) -> dict[str, float]:
    """Ask from several coroutines, as the engine does, and measure from the first on."""
    provider = get_provider("openai", url=url, concurrency=concurrency)
    assert isinstance(provider, OpenAIProvider)
    image = base64.b64encode(_picture()).decode()
    request = ImageEmbeddingInput(image=f"data:image/png;base64,{image}", model="m")
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            await provider.image_embedding(request)

    try:
        await provider.list_models()
        started, worked = perf_counter(), process_time()
        await asyncio.gather(*(work() for _ in range(WORKERS)))
        return {"seconds": perf_counter() - started, "cpu_seconds": process_time() - worked}
    finally:
        await provider.aclose()


def _picture() -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (32, 24), (9, 99, 199)).save(made, "PNG")
    return made.getvalue()


if __name__ == "__main__":
    address, requests, *at_once = sys.argv[1:]
    print(json.dumps(asyncio.run(ask(address, int(requests), *map(int, at_once)))))
