"""The real server that wants no key, which the last test here ends: no other file uses it."""

from pathlib import Path

import numpy as np
import pytest

from pixano_cli.inference.errors import ProviderDownError
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.providers.pixano_inference import PixanoInferenceProvider
from pixano_cli.inference.types import VideoMaskGenerationInput
from pixano_cli.media import flight
from pixano_cli.media.decode import decode_image

from .real_server import Servers
from .remote import ask, embed
from .squares import moving, of_colour, url

SAMPLES = Path(__file__).parents[2] / "sample_data"


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIXANO_INFERENCE_API_KEY", raising=False)


def test_tracking(servers: Servers) -> None:
    frames = moving(3)

    async def question(provider: InferenceProvider) -> None:
        request = VideoMaskGenerationInput(
            [url(frame) for frame in frames], "squares", [1], [0], [[[3, 5]]], [[1]]
        )
        result = await provider.video_mask_generation(request)
        assert result.data.masks == [of_colour(frame, "red") for frame in frames]

    ask("pixano-inference", servers.open.url, question)


def test_after_the_end(servers: Servers) -> None:
    """The last test of the open server, which it ends."""
    path = SAMPLES / "rocket.jpg"

    async def question(provider: InferenceProvider) -> None:
        assert [model.name for model in await provider.list_models()] == ["quarters", "squares"]
        result = await embed(provider, "quarters", flight.url_of(path), 60.0)
        pixels = decode_image(path.read_bytes())
        height, width = (side // 2 for side in pixels.shape[:2])
        first = pixels[:height, :width].mean(axis=(0, 1))
        assert np.allclose(result.data.embedding[:3], first, rtol=1e-5)
        servers.open.kill()
        # It is not to be waited for as long as it is for users.
        assert isinstance(provider, PixanoInferenceProvider)
        provider._server._breaker._patience = 1.0
        with pytest.raises(ProviderDownError, match="has been away for 1 s and is given up"):
            await embed(provider, "quarters", flight.url_of(path))

    ask("pixano-inference", servers.open.url, question)
