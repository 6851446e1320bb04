"""Every method of the provider, with a server that speaks as each generation is said to."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from pixano_cli import rle
from pixano_cli.errors import UsageError
from pixano_cli.inference import get_provider
from pixano_cli.inference.embedding import EmbeddingTask
from pixano_cli.inference.errors import (
    InferenceError,
    InferenceTimeoutError,
    InvalidRequestError,
    ModelNotFoundError,
    TaskNotSupportedError,
)
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.types import (
    InferenceTask,
    ModelConfig,
    TextImageConditionalGenerationInput,
)

from .pixano_asking import ALL, PICTURE, SQUARES, detecting, following, masking, pixano
from .pixano_generations import pixano_server
from .squares import moving, of_colour, url


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIXANO_INFERENCE_API_KEY", raising=False)


@pytest.mark.parametrize("generation", ALL)
def test_detection(generation: int) -> None:
    with pixano_server(generation) as own:

        async def question(provider: InferenceProvider) -> None:
            result = await provider.image_zero_shot_detection(detecting())
            assert result.data.boxes == [[*map(float, box)] for box in SQUARES.values()]
            assert result.data.classes == ["red", "blue"]
            assert result.data.scores == [0.75, 0.75]
            assert (result.status, result.processing_time) == ("SUCCESS", 0.25)
            assert result.timestamp == datetime(2026, 11, 21, 12, tzinfo=UTC)
            masks = result.metadata.get("masks")
            if generation >= 3:
                assert masks == [of_colour(PICTURE, name).to_dict() for name in SQUARES]
            else:
                assert masks is None
            # The model has its own classes, so that others are left out on this side.
            some = await provider.image_zero_shot_detection(detecting(classes=["Blue", "cat"]))
            assert some.data.classes == ["Blue"]
            assert some.data.boxes == [[*map(float, SQUARES["blue"])]]

        pixano(own, question)
    sent = [body["classes"] for body in own.bodies]
    if generation <= 2:
        assert sent == [[], ["Blue", "cat"]]
    else:
        assert sent == [None, None if generation == 5 else ["Blue", "cat"]]


@pytest.mark.parametrize("generation", ALL)
def test_open_vocabulary(generation: int) -> None:
    with pixano_server(generation) as own:

        async def question(provider: InferenceProvider) -> None:
            asked = detecting(model="grounding-dino-colours", classes=["Blue Thing", "Red"])
            result = await provider.image_zero_shot_detection(asked)
            # An empty phrase could be either.
            assert result.data.classes == ["Red"]
            asked = detecting(model="grounding-dino-colours", classes="blue")
            result = await provider.image_zero_shot_detection(asked)
            assert result.data.classes == ["blue"]
            with pytest.raises(InvalidRequestError, match="no classes of its own: name those"):
                await provider.image_zero_shot_detection(detecting(model="grounding-dino-colours"))

        pixano(own, question)
    assert [body["classes"] for body in own.bodies] == ["blue thing. red.", "blue."]


@pytest.mark.parametrize("generation", ALL)
def test_masks(generation: int) -> None:
    with pixano_server(generation) as own:

        async def question(provider: InferenceProvider) -> None:
            boxes = [[4.6, 6.4, 20.0, 16.49], [30, 10, 41, 33]]
            result = await provider.image_mask_generation(masking(boxes=boxes))
            assert result.data.scores.shape == [2, 3]
            assert result.data.scores.values == pytest.approx([0.5, 0.9, 0.7] * 2)
            for masks, box in zip(result.data.masks, SQUARES.values(), strict=True):
                assert [rle.bounding_box(mask) for mask in masks] == [box] * 3
            one = await provider.image_mask_generation(masking(boxes=boxes, multimask_output=False))
            assert one.data.scores.shape == [2, 1]
            best = await provider.image_mask_generation(
                masking(points=[[[59.9, 3.5]]], labels=[[1]], num_multimask_outputs=2)
            )
            assert best.data.scores.values == pytest.approx([0.9, 0.7])
            assert rle.bounding_box(best.data.masks[0][0]) == (59, 4, 60, 5)
            assert best.data.image_embedding is None
            made = (
                await provider.image_mask_generation(
                    masking(boxes=boxes, return_image_embedding=True)
                )
            ).data.image_embedding
            assert made is not None
            assert (made.shape, made.values) == ([1, 3, 2, 2], [float(n) for n in range(12)])
            await provider.image_mask_generation(masking(boxes=boxes, image_embedding=made))

        pixano(own, question)
    assert all(body["reset_predictor"] for body in own.bodies)


@pytest.mark.parametrize("generation", ALL)
def test_coordinates_and_masks_of_a_smaller_picture(generation: int) -> None:
    large = np.kron(PICTURE, np.ones((4, 4, 1), np.uint8))
    with pixano_server(generation) as own:

        async def question(provider: InferenceProvider) -> None:
            described = await provider.describe_model("boxes")
            assert described.parameters == {"max_side": 60}
            boxes = [[20, 24, 80, 64]]
            result = await provider.image_mask_generation(
                masking(image=url(large), boxes=boxes, multimask_output=False)
            )
            [[mask]] = result.data.masks
            assert (mask.size, rle.bounding_box(mask)) == ([160, 240], (20, 24, 80, 64))
            assert rle.area(mask) == 60 * 40
            video = [url(np.kron(frame, np.ones((4, 4, 1), np.uint8))) for frame in moving(4)]
            followed = await provider.video_mask_generation(
                following(4, video=video, boxes=[[2, 16, 30, 48], [200, 0, 230, 24]])
            )
            sizes = {tuple(mask.size) for mask in followed.data.masks}
            assert sizes == {(160, 240)}

        pixano(own, question, max_side=60, window=3)
    assert own.bodies[0]["boxes"] == [[5, 6, 20, 16]]


@pytest.mark.parametrize("generation", ALL)
def test_text(generation: int) -> None:
    with pixano_server(generation) as own:

        async def question(provider: InferenceProvider) -> None:
            request = TextImageConditionalGenerationInput(
                "echo", "What is it?", [url(PICTURE)], max_new_tokens=9, temperature=0.5
            )
            result = await provider.text_image_conditional_generation(request)
            assert result.data.generated_text == "60x40 What is it?"
            assert result.data.usage.total_tokens == 7
            assert result.data.generation_config == {"max_new_tokens": 9, "temperature": 0.5}
            assert result.metadata["usage"] == {
                "prompt_tokens": 3,
                "completion_tokens": 4,
                "total_tokens": 7,
            }

        pixano(own, question)


@pytest.mark.parametrize("generation", [2, 3, 4, 5])
def test_a_server_that_has_no_models_yet_is_waited_for(generation: int) -> None:
    with pixano_server(generation) as own:

        async def question(provider: InferenceProvider) -> None:
            await provider.list_models()
            own.loading = 2
            result = await provider.image_mask_generation(masking(boxes=[[1, 2, 3, 4]]))
            assert len(result.data.masks) == 1

        pixano(own, question)
    assert len(own.bodies) == 3


@pytest.mark.parametrize("generation", ALL)
def test_refusals(generation: int) -> None:
    with pixano_server(generation) as own:

        async def question(provider: InferenceProvider) -> None:
            with pytest.raises(ModelNotFoundError, match="no model 'boxen': did you mean 'boxes'"):
                await provider.image_mask_generation(masking(model="boxen", boxes=[[1, 2, 3, 4]]))
            with pytest.raises(TaskNotSupportedError, match=r"'colours' .*_zero_shot_detection"):
                await provider.image_mask_generation(masking(model="colours", boxes=[[1, 2, 3, 4]]))
            with pytest.raises(InvalidRequestError, match=r"\(400: num_multimask_outputs"):
                await provider.image_mask_generation(
                    masking(boxes=[[1, 2, 3, 4]], num_multimask_outputs=4)
                )
            with pytest.raises(InvalidRequestError, match="not one label a point"):
                await provider.image_mask_generation(masking(points=[[[1, 2]]], labels=[[1, 0]]))

        pixano(own, question)


@pytest.mark.parametrize("generation", ALL)
def test_server_models_and_capabilities(generation: int) -> None:
    with pixano_server(generation) as own:

        async def question(provider: InferenceProvider) -> None:
            assert (await provider.get_capabilities()).tasks == list(InferenceTask)
            info = await provider.get_server_info()
            assert info.app_name == "Pixano Inference"
            assert sorted(info.models) == sorted(own.models)
            assert info.models_to_task["boxes"] == "image_mask_generation"
            assert info.gpus_used == ([0] if generation <= 3 else [])
            assert len(await provider.list_models()) == 5
            listed = await provider.list_models(InferenceTask.VIDEO_MASK_GENERATION)
            assert [model.name for model in listed] == ["squares"]
            described = await provider.describe_model("colours", InferenceTask.OBJECT_DETECTION)
            assert described.task is InferenceTask.OBJECT_DETECTION
            names = None if generation < 5 else ["red", "green", "blue"]
            assert (described.categories and [each.name for each in described.categories]) == names
            assert EmbeddingTask.IMAGE_EMBEDDING not in info.models_to_task.values()

        pixano(own, question)


@pytest.mark.parametrize("generation", ALL)
def test_loading_models(generation: int) -> None:
    config = ModelConfig(
        "new one",
        "video_mask_generation",
        "weights/x",
        {"fast": True, "deployment": {"num_cpus": 1}},
    )
    with pixano_server(generation) as own:

        async def question(provider: InferenceProvider) -> None:
            if generation in (2, 3):
                with pytest.raises(TaskNotSupportedError, match="Model deployment is managed by"):
                    await provider.instantiate_model("squares", config)
                with pytest.raises(TaskNotSupportedError, match="Model deployment is managed by"):
                    await provider.delete_model("squares")
                return
            await provider.instantiate_model("own" if generation == 1 else "squares", config)
            assert "new one" in {model.name for model in await provider.list_models()}
            await provider.delete_model("new one")
            with pytest.raises(ModelNotFoundError, match="no model 'new one' to delete"):
                await provider.delete_model("new one")
            with pytest.raises(ModelNotFoundError, match="knows no"):
                await provider.instantiate_model("other", config)
            if generation >= 4:
                config.task = "image_mask_generation"
                with pytest.raises(TaskNotSupportedError, match="does video_mask_generation, not"):
                    await provider.instantiate_model("squares", config)
                assert "new one" not in own.models
                config.name = "boxes"
                with pytest.raises(InvalidRequestError, match=r"\(409: .*already deployed"):
                    await provider.instantiate_model("squares", config)

        pixano(own, question)
    if generation == 1:
        assert own.bodies[0]["config"]["config"]["fast"] is True
    if generation >= 4:
        assert own.bodies[0] == {
            "name": "new one",
            "modelClass": "squares",
            "modelParams": {"fast": True, "path": "weights/x"},
            "deployment": {"num_cpus": 1},
        }


def test_loading_that_fails_or_takes_too_long() -> None:
    config = ModelConfig("new", "video_mask_generation")
    with pixano_server(1, ends_as="FAILURE", polls=0) as own:
        with pytest.raises(InferenceError, match=r"could not load model 'new' \(FAILURE\)"):
            pixano(own, lambda provider: provider.instantiate_model("own", config))
        own.polls = 1000
        with pytest.raises(InferenceTimeoutError, match="did not load model 'new' in 1 s"):
            pixano(own, lambda provider: provider.instantiate_model("own", config, 1))


@pytest.mark.parametrize("generation", ALL)
def test_the_dialect_can_be_said(generation: int) -> None:
    with pixano_server(generation) as own:

        async def question(provider: InferenceProvider) -> None:
            await provider.image_mask_generation(masking(boxes=[[1, 2, 3, 4]]))

        pixano(own, question, dialect=f"G{generation}")
    assert own.asked[0].startswith("POST")


def test_each_is_told_apart_once_however_many_ask() -> None:
    with pixano_server(2) as own:

        async def question(provider: InferenceProvider) -> None:
            request = masking(boxes=[[1, 2, 3, 4]])
            await asyncio.gather(*(provider.image_mask_generation(request) for _ in range(8)))

        pixano(own, question)
    assert own.asked[:3] == ["GET /v1/info", "GET /app/settings/", "GET /ready"]
    assert len(own.asked) == 11


@pytest.mark.parametrize(
    ("option", "told"),
    [({"dialect": "g6"}, "dialect must be one of auto, g1"), ({"window": 1}, "at least 2 frames")],
)
def test_options(option: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        get_provider("pixano-inference", **option)
