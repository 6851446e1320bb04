"""A real server with OpenAI's API and a model that talks nonsense about any picture."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixano_cli.inference.check import check_provider
from pixano_cli.inference.errors import InferenceError, ModelNotFoundError
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.types import InferenceTask, ModelInfo, TextImageConditionalGenerationInput

from .chats import caption, detect
from .remote import ask
from .transformers_server import MODEL, transformers_server

pytestmark = pytest.mark.long

PHOTOS = Path(__file__).parents[2] / "sample_data"
CHELSEA = PHOTOS / "chelsea.png"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with transformers_server(tmp_path_factory.mktemp("transformers")) as served:
        yield served


def test_models(url: str) -> None:
    async def question(provider: InferenceProvider) -> None:
        assert await provider.list_models() == [ModelInfo(MODEL, "", None, "tests", "openai")]
        described = await provider.describe_model(MODEL, InferenceTask.OBJECT_DETECTION)
        assert described.parameters == {"boxes": "xyxy-unit", "grounding": 1}
        with pytest.raises(ModelNotFoundError, match=f"did you mean '{MODEL}'"):
            await provider.describe_model("tests/tiny-lava")

    ask("openai", url, question)


def test_captions_and_usage(url: str) -> None:
    async def question(provider: InferenceProvider) -> None:
        requests = [
            TextImageConditionalGenerationInput(MODEL, prompt, images, max_new_tokens=8)
            for prompt in ("What is it?", "What is it, and where?")
            for images in (None, [CHELSEA], [str(CHELSEA), CHELSEA])
        ]
        results = await asyncio.gather(
            *(provider.text_image_conditional_generation(each, 120) for each in requests)
        )
        for result in results:
            usage = result.data.usage
            assert result.data.generated_text
            assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
            assert 0 < usage.completion_tokens <= 8
            assert result.metadata["usage"] == usage.to_dict()
            assert result.metadata["finish_reason"] in ("stop", "length")
            # It tells the revision too.
            assert result.metadata["model"].startswith(MODEL)
            assert "logprobs" not in result.metadata
        prompts = [result.data.usage.prompt_tokens for result in results]
        none, one, two = prompts[:3]
        # A picture is 4 tokens: the pictures have come through, each of them.
        assert (one - none, two - one) == (4, 4)
        # The longer prompt has 11 more bytes.
        assert [prompts[at + 3] - prompts[at] for at in range(3)] == [11, 11, 11]

    ask("openai", url, question)


def test_one_prompt_in_every_form(url: str) -> None:
    image = {"type": "image_url", "image_url": {"url": CHELSEA.as_uri()}}
    forms = [
        ("What?", [CHELSEA]),
        ([{"role": "user", "content": [image, {"type": "text", "text": "What?"}]}], None),
        ([{"role": "user", "content": [{"type": "image"}, "What?"]}], [CHELSEA]),
    ]

    async def question(provider: InferenceProvider) -> set[str]:
        return {
            (
                await caption(provider, prompt, MODEL, 120, images=images, max_new_tokens=12)
            ).data.generated_text
            for prompt, images in forms
        }

    assert len(ask("openai", url, question)) == 1


def test_a_schema_is_passed_over_by_it_and_kept_to_by_us(url: str) -> None:
    schema = {"type": "object", "properties": {"label": {"type": "string"}}}

    async def question(provider: InferenceProvider) -> None:
        with pytest.raises(InferenceError, match=r"cut off after 16 tokens|cannot be read") as r:
            await caption(provider, "?", MODEL, 120, max_new_tokens=16, schema=schema)
        assert r.value.usage is not None
        assert r.value.usage["completion_tokens"] in (16, 32)

    ask("openai", url, question)


def test_boxes_that_it_cannot_give_are_an_error(url: str) -> None:
    async def question(provider: InferenceProvider) -> None:
        with pytest.raises(InferenceError, match=r"cut off|cannot be read|did not answer"):
            await detect(provider, MODEL, timeout=120)
        with pytest.raises(InferenceError, match=r"cut off|cannot be read|did not answer"):
            await check_provider(provider, MODEL)

    ask("openai", url, question, max_side=64)


def test_an_unknown_model_is_not_our_fault(url: str) -> None:
    with pytest.raises(InferenceError, match=r"failed \(500: Internal Server Error\)"):
        ask("openai", url, lambda provider: caption(provider, model="no/one", timeout=60))
