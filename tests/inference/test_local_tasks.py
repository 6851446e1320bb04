"""The local provider with plugins for masks, text and tracks."""

import asyncio
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from pixano_cli import rle
from pixano_cli.inference.errors import InferenceError, InvalidRequestError
from pixano_cli.inference.providers.local import LocalProvider
from pixano_cli.inference.types import (
    ImageMaskGenerationInput,
    NDArrayData,
    TextImageConditionalGenerationInput,
    VideoMaskGenerationInput,
)
from pixano_cli.media import flight
from pixano_cli.models import (
    SegmentationInput,
    SegmentationModel,
    SegmentationOutput,
    TrackingInput,
    TrackingModel,
    TrackingOutput,
    UsageInfo,
    VLMInput,
    VLMModel,
    VLMOutput,
)
from pixano_cli.models.pixano_inference_adapters import SegmentationAdapter

from .local_detectors import Picture, Register


class Encoding(SegmentationModel):
    """Makes a full mask for each prompt, and counts the images it encodes."""

    encoded: ClassVar[list[tuple[int, ...]]] = []

    def load_model(self) -> None:
        pass

    def predict(self, input: SegmentationInput) -> SegmentationOutput:  # noqa: A002
        assert isinstance(input.image, np.ndarray)
        embedding = input.image_embedding
        if embedding is None:
            self.encoded.append(input.image.shape[:2])
            embedding = np.full((1, 2), len(self.encoded), np.float32)
        boxes = input.boxes or []
        mask = rle.encode(np.ones(input.image.shape[:2], np.uint8))
        return SegmentationOutput(
            masks=[[mask] for _ in boxes],
            scores=np.full((len(boxes), 1), embedding[0, 0] / 8, np.float32),
            image_embedding=embedding if input.return_image_embedding else None,
        )


@pytest.fixture
def encoded(register: Register, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    sizes: list[tuple[int, ...]] = []
    monkeypatch.setattr(Encoding, "encoded", sizes)
    register(Encoding)
    return sizes


def segment_each(provider: LocalProvider, *asked: tuple[str, bool]) -> list[float]:
    """Segment images one after the other; return the scores, which tell the embeddings apart."""

    async def ask() -> list[float]:
        scores = []
        for image, reset in asked:
            request = ImageMaskGenerationInput(
                image, "plugin", boxes=[[0, 0, 5, 5]], reset_predictor=reset
            )
            result = await provider.image_mask_generation(request)
            assert result.data.image_embedding is None
            scores.append(result.data.scores.values[0])
        return scores

    return asyncio.run(ask())


def test_calls_on_one_image_encode_it_once(
    provider: LocalProvider, encoded: list[tuple[int, ...]], picture: Picture
) -> None:
    image, other = picture(20, 10), picture(30, 10)

    scores = segment_each(
        provider, (image, True), (image, False), (other, False), (image, False), (other, False)
    )

    assert encoded == [(10, 20), (10, 30)]
    assert scores == [0.125, 0.125, 0.25, 0.125, 0.25]


def test_resetting_encodes_anew_and_replaces(
    provider: LocalProvider, encoded: list[tuple[int, ...]], picture: Picture
) -> None:
    image = picture(20, 10)

    scores = segment_each(provider, (image, True), (image, True), (image, False))

    assert len(encoded) == 2
    assert scores == [0.125, 0.25, 0.25]


def test_only_the_last_few_embeddings_are_kept(
    provider: LocalProvider, encoded: list[tuple[int, ...]], picture: Picture
) -> None:
    images = [picture(20 + index, 10) for index in range(7)]  # one more than twice three

    segment_each(provider, *[(image, False) for image in images], (images[6], False))
    assert len(encoded) == 7
    segment_each(provider, (images[0], False))
    assert len(encoded) == 8


def test_a_file_that_changed_is_encoded_again(
    provider: LocalProvider, encoded: list[tuple[int, ...]], picture: Picture
) -> None:
    image = picture(20, 10)
    segment_each(provider, (image, True))
    Image.new("RGB", (20, 10), "red").save(flight.path_of(image))

    segment_each(provider, (image, False))

    assert len(encoded) == 2


def test_an_embedding_that_a_caller_gives_is_his_own(
    provider: LocalProvider, encoded: list[tuple[int, ...]], picture: Picture
) -> None:
    image = picture(20, 10)
    request = ImageMaskGenerationInput(
        image,
        "plugin",
        image_embedding=NDArrayData([4.0, 4.0], [1, 2]),
        boxes=[[0, 0, 5, 5]],
        return_image_embedding=True,
    )

    result = asyncio.run(provider.image_mask_generation(request))

    assert result.data.image_embedding == NDArrayData([4.0, 4.0], [1, 2])
    assert result.data.scores.values == [0.5]
    assert encoded == []
    assert segment_each(provider, (image, False)) == [0.125]


def test_a_plugin_for_pixano_inference_is_not_asked_for_embeddings(
    provider: LocalProvider, register: Register, picture: Picture
) -> None:
    asked = []

    class Adapted(SegmentationAdapter):
        plugin_class = Encoding
        origin = "some-plugin 1.0"

        def load_model(self) -> None:
            pass

        def predict(self, input: SegmentationInput) -> SegmentationOutput:  # noqa: A002
            asked.append((input.return_image_embedding, input.image_embedding))
            return SegmentationOutput(masks=[], scores=np.ones((0, 1), np.float32))

    register(Adapted)
    request = ImageMaskGenerationInput(picture(20, 10), "plugin", boxes=[[0, 0, 5, 5]])
    for reset in (True, False):
        request.reset_predictor = reset
        asyncio.run(provider.image_mask_generation(request))

    assert asked == [(False, None)] * 2


def test_a_segmenters_value_error_is_an_invalid_request(
    provider: LocalProvider, register: Register, picture: Picture
) -> None:
    class Strict(Encoding):
        def predict(self, input: SegmentationInput) -> SegmentationOutput:  # noqa: A002
            raise ValueError("boxes only")

    register(Strict)
    request = ImageMaskGenerationInput(picture(20, 10), "plugin", boxes=[[0, 0, 5, 5]])

    with pytest.raises(InvalidRequestError, match=r"'plugin' refuses .* 20x10\.png: boxes only$"):
        asyncio.run(provider.image_mask_generation(request))


def test_masks_of_another_size_are_an_error(
    provider: LocalProvider, register: Register, picture: Picture
) -> None:
    class Odd(Encoding):
        def predict(self, input: SegmentationInput) -> SegmentationOutput:  # noqa: A002
            mask = rle.encode(np.ones((3, 3), np.uint8))
            return SegmentationOutput(masks=[[mask]], scores=np.ones((1, 1), np.float32))

    register(Odd)
    request = ImageMaskGenerationInput(picture(20, 10), "plugin", boxes=[[0, 0, 5, 5]])

    with pytest.raises(InferenceError, match="another size"):
        asyncio.run(provider.image_mask_generation(request))


def test_a_vision_language_model_gets_pixels_and_answers(
    provider: LocalProvider, register: Register, picture: Picture
) -> None:
    class Describing(VLMModel):
        def load_model(self) -> None:
            pass

        def predict(self, input: VLMInput) -> VLMOutput:  # noqa: A002
            sizes = [each.shape for each in input.images or [] if isinstance(each, np.ndarray)]
            return VLMOutput(
                generated_text=f"{input.prompt} {sizes} {input.temperature}",
                usage=UsageInfo(prompt_tokens=1, completion_tokens=2, total_tokens=3),
                generation_config={"max_new_tokens": input.max_new_tokens},
            )

    register(Describing)
    request = TextImageConditionalGenerationInput(
        "plugin", "Sizes:", [picture(20, 10), flight.path_of(picture(5, 6))], 7, 0.0
    )

    result = asyncio.run(provider.text_image_conditional_generation(request))

    assert result.data.generated_text == "Sizes: [(10, 20, 3), (6, 5, 3)] 0.0"
    assert result.data.usage.total_tokens == 3
    assert result.data.generation_config == {"max_new_tokens": 7}
    request.images = None
    result = asyncio.run(provider.text_image_conditional_generation(request))
    assert result.data.generated_text == "Sizes: [] 0.0"


class Following(TrackingModel):
    """Says that every object fills every frame from its prompt's on."""

    def load_model(self) -> None:
        pass

    def predict(self, input: TrackingInput) -> TrackingOutput:  # noqa: A002
        found = [
            (object_id, index)
            for object_id, first in zip(input.objects_ids, input.frame_indexes, strict=True)
            for index in range(first, len(input.video))
        ]
        shapes = [each.shape[:2] for each in input.video if isinstance(each, np.ndarray)]
        return TrackingOutput(
            objects_ids=[object_id for object_id, _ in found],
            frame_indexes=[index for _, index in found],
            masks=[rle.encode(np.ones(shapes[index], np.uint8)) for _, index in found],
        )


def test_a_tracker_gets_frames_and_answers(
    provider: LocalProvider, register: Register, picture: Picture
) -> None:
    register(Following)
    boxes = [[0.0, 0.0, 5.0, 5.0], [1.0, 1.0, 6.0, 6.0]]
    request = VideoMaskGenerationInput(
        [picture(20, 10)] * 3, "plugin", objects_ids=[4, 9], frame_indexes=[0, 2], boxes=boxes
    )

    result = asyncio.run(provider.video_mask_generation(request))

    assert result.data.objects_ids == [4, 4, 4, 9]
    assert result.data.frame_indexes == [0, 1, 2, 2]
    assert {tuple(mask.size) for mask in result.data.masks} == {(10, 20)}
    assert result.status == "SUCCESS"


def test_prompts_for_frames_that_are_not_there_are_an_invalid_request(
    provider: LocalProvider, register: Register, picture: Picture
) -> None:
    register(Following)
    request = VideoMaskGenerationInput(
        [picture(20, 10)], "plugin", objects_ids=[4], frame_indexes=[1], boxes=[[0, 0, 5, 5]]
    )

    with pytest.raises(InvalidRequestError, match="frame_indexes go beyond"):
        asyncio.run(provider.video_mask_generation(request))
