"""The provider in this process, with the real weights on real photographs."""

import asyncio
import base64
import io
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from PIL import Image

from pixano_cli import rle
from pixano_cli.annotations import Box
from pixano_cli.errors import ImageDecodeError, MediaReadError, UsageError
from pixano_cli.inference import get_provider
from pixano_cli.inference.errors import (
    InferenceError,
    InvalidRequestError,
    ModelNotFoundError,
    TaskNotSupportedError,
)
from pixano_cli.inference.providers.local import LocalProvider
from pixano_cli.inference.types import (
    ImageMaskGenerationInput,
    ImageMaskGenerationResult,
    ImageZeroShotDetectionInput,
    ImageZeroShotDetectionResult,
    InferenceTask,
    ModelConfig,
    NDArrayData,
    TextImageConditionalGenerationInput,
)
from pixano_cli.media import flight
from pixano_cli.models.coco_classes import COCO_CATEGORIES

SAMPLES = Path(__file__).parents[2] / "sample_data"
DETECTOR = "picodet-s-416"
SEGMENTER = "mobile-sam"
# How a stored image is to be turned for display is the inverse of how it was turned for storing.
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}

T = TypeVar("T")


@pytest.fixture(scope="module")
def provider() -> Iterator[LocalProvider]:
    """One provider for all tests; each test's event loop is another."""
    made = LocalProvider(concurrency=2)
    yield made
    asyncio.run(made.aclose())


def url(name: str) -> str:
    return flight.url_of(SAMPLES / name)


async def detect(
    provider: LocalProvider, image: str, model: str = DETECTOR, **options: Any
) -> ImageZeroShotDetectionResult:
    options.setdefault("classes", [])
    return await provider.image_zero_shot_detection(
        ImageZeroShotDetectionInput(image=image, model=model, **options)
    )


async def segment(
    provider: LocalProvider, image: str, model: str = SEGMENTER, **options: Any
) -> ImageMaskGenerationResult:
    return await provider.image_mask_generation(
        ImageMaskGenerationInput(image=image, model=model, **options)
    )


def error_of(kind: type[T], work: Awaitable[Any]) -> T:
    """Return the error that awaiting raises, after checking that it is one line."""

    async def awaited() -> None:
        await work

    with pytest.raises(kind) as raised:  # type: ignore[type-var]
        asyncio.run(awaited())
    assert "\n" not in str(raised.value)
    return raised.value


def test_it_is_the_registered_local_provider() -> None:
    made = get_provider("local", concurrency=1)

    assert isinstance(made, LocalProvider)
    assert made.name == "local"
    asyncio.run(made.aclose())


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("astronaut.png", ["person"]),
        ("chelsea.png", ["cat"]),
        ("coffee.png", ["dining table", "cup"]),
        ("rocket.jpg", []),
    ],
)
def test_detection_of_the_photographs(
    provider: LocalProvider, name: str, classes: list[str]
) -> None:
    before = datetime.now(UTC)

    result = asyncio.run(detect(provider, url(name)))

    assert result.data.classes == classes
    assert len(result.data.boxes) == len(result.data.scores) == len(classes)
    assert result.status == "SUCCESS"
    assert before <= result.timestamp <= datetime.now(UTC)
    assert 0.001 < result.processing_time < 30
    assert len(result.id) == 32
    assert result.metadata["digest"].startswith("a9aa001b")
    assert result.metadata["model_name"] == DETECTOR


def test_every_answer_has_an_id_of_its_own(provider: LocalProvider) -> None:
    async def several() -> list[str]:
        answers = await asyncio.gather(*[detect(provider, url("rocket.jpg")) for _ in range(5)])
        return [answer.id for answer in answers]

    assert len(set(asyncio.run(several()))) == 5


def test_an_image_may_be_a_url_a_path_a_data_url_or_held_bytes(provider: LocalProvider) -> None:
    content = (SAMPLES / "chelsea.png").read_bytes()
    data_url = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    held = "file:///there/is/no/such/file.png"

    async def all_ways() -> list[Any]:
        with flight.hold(held, content):
            images = [url("chelsea.png"), str(SAMPLES / "chelsea.png"), data_url, held]
            return [(await detect(provider, image)).data for image in images]

    first, *others = asyncio.run(all_ways())
    assert first.classes == ["cat"]
    assert others == [first] * 3


@pytest.mark.parametrize("classes", ["", []])
def test_a_closed_vocabulary_is_asked_for_all_of_it(
    provider: LocalProvider, classes: str | list[str]
) -> None:
    result = asyncio.run(detect(provider, url("coffee.png"), classes=classes))
    assert result.data.classes == ["dining table", "cup"]


def test_classes_and_threshold_reach_the_model(provider: LocalProvider) -> None:
    named = asyncio.run(detect(provider, url("coffee.png"), classes=["cup"]))
    strict = asyncio.run(detect(provider, url("coffee.png"), box_threshold=0.92))
    loose = asyncio.run(detect(provider, url("coffee.png"), box_threshold=0.05))

    assert named.data.classes == ["cup"]
    assert strict.data.classes == ["dining table"]
    assert len(loose.data.classes) > 5


def jpeg(image: Image.Image, orientation: int, path: Path) -> Path:
    """Store `image` so that it is displayed as it is under an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = image.transpose(STORED[orientation]) if orientation in STORED else image
    stored.save(path, quality=95, subsampling=0, exif=exif)
    return path


@pytest.mark.parametrize("scale", [1, 3], ids=["every pixel", "decoded at half its scale"])
def test_all_eight_orientations_give_the_same_boxes(
    provider: LocalProvider, tmp_path: Path, scale: int
) -> None:
    with Image.open(SAMPLES / "coffee.png") as opened:
        photograph = opened.convert("RGB").resize((600 * scale, 400 * scale))
    paths = [jpeg(photograph, each, tmp_path / f"{each}.jpg") for each in range(1, 9)]

    async def all_eight() -> list[ImageZeroShotDetectionResult]:
        return await asyncio.gather(*[detect(provider, flight.url_of(path)) for path in paths])

    upright, *variants = [result.data for result in asyncio.run(all_eight())]
    assert upright.classes == ["dining table", "cup"]
    # Read off the photograph by eye: the cup without its saucer.
    assert np.abs(np.array(upright.boxes[1]) / scale - [171, 17, 424, 306]).max() < 12
    for variant in variants:
        assert variant.classes == upright.classes
        assert np.abs(np.array(variant.boxes) - np.array(upright.boxes)).max() <= 2


def test_a_reduced_decode_gives_the_boxes_of_a_whole_one(
    provider: LocalProvider, tmp_path: Path
) -> None:
    with Image.open(SAMPLES / "astronaut.png") as opened:
        photograph = opened.convert("RGB").resize((2001, 1499))
    photograph.save(tmp_path / "large.jpg", quality=95)
    with Image.open(tmp_path / "large.jpg") as opened:
        opened.save(tmp_path / "large.png", compress_level=1)

    reduced, whole = (
        asyncio.run(detect(provider, flight.url_of(tmp_path / name))).data
        for name in ("large.jpg", "large.png")
    )

    assert reduced.classes == whole.classes == ["person"]
    assert np.abs(np.array(reduced.boxes) - np.array(whole.boxes)).max() < 12
    assert all(value == round(value, 2) for value in reduced.boxes[0])


def test_segmentation_of_the_cat_by_the_detectors_box(provider: LocalProvider) -> None:
    found = asyncio.run(detect(provider, url("chelsea.png"))).data
    result = asyncio.run(
        segment(provider, url("chelsea.png"), boxes=found.boxes, multimask_output=False)
    )

    ((mask,),) = result.data.masks
    mask_box, box = Box(*rle.bounding_box(mask)), Box(*found.boxes[0]).clip(451, 300)
    overlap = Box(
        max(mask_box.xmin, box.xmin),
        max(mask_box.ymin, box.ymin),
        min(mask_box.xmax, box.xmax),
        min(mask_box.ymax, box.ymax),
    ).area
    assert mask.size == [300, 451]
    assert overlap / (mask_box.area + box.area - overlap) > 0.8
    assert result.data.scores.shape == [1, 1]
    assert result.data.scores.values == [round(result.data.scores.values[0], 5)]
    assert result.data.scores.values[0] > 0.9
    assert result.data.image_embedding is None
    assert len(result.metadata["digest"]) == 64


def test_an_embedding_can_be_had_and_given_back(provider: LocalProvider) -> None:
    boxes = [[168.0, 17.0, 426.0, 302.0]]
    first = asyncio.run(
        segment(provider, url("coffee.png"), boxes=boxes, return_image_embedding=True)
    )
    embedding = first.data.image_embedding
    assert embedding is not None
    assert embedding.shape == [1, 256, 64, 64]

    second = asyncio.run(
        segment(provider, url("coffee.png"), boxes=boxes, image_embedding=embedding)
    )

    assert second.data.masks == first.data.masks
    assert second.data.scores == first.data.scores


def test_no_prompts_give_no_masks(provider: LocalProvider) -> None:
    result = asyncio.run(segment(provider, url("coffee.png"), boxes=[], points=None))

    assert result.data.masks == []
    assert result.data.scores.values == []


@pytest.mark.parametrize(
    "options",
    [
        {"boxes": [[1, 2, 3]]},
        {"points": [[[1, 2]]], "labels": [[5]]},
        {"boxes": [["left", 0, 1, 1]]},
        {"boxes": [[0, 0, 9, 9]], "image_embedding": NDArrayData([1.0], [1])},
        {"boxes": [[0, 0, 9, 9]], "image_embedding": NDArrayData([1.0], [2])},
    ],
)
def test_prompts_that_make_no_sense_are_an_invalid_request(
    provider: LocalProvider, options: dict[str, Any]
) -> None:
    error = error_of(InvalidRequestError, segment(provider, url("coffee.png"), **options))
    assert SEGMENTER in str(error)


def bytes_of(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("ask", [detect, segment])
def test_bad_files_raise_the_errors_of_media(
    provider: LocalProvider, tmp_path: Path, ask: Callable[..., Awaitable[Any]]
) -> None:
    whole = bytes_of(Image.new("RGB", (900, 900), "red"), "JPEG")
    for name, content in {"empty": b"", "text": b"hello", "cut": whole[: len(whole) // 2]}.items():
        path = tmp_path / f"{name}.jpg"
        path.write_bytes(content)
        error_of(ImageDecodeError, ask(provider, flight.url_of(path)))
    error_of(MediaReadError, ask(provider, flight.url_of(tmp_path / "missing.jpg")))
    error_of(MediaReadError, ask(provider, str(tmp_path / "missing.jpg")))
    error_of(MediaReadError, ask(provider, "https://example.org/1.jpg"))


def test_an_unknown_model_is_answered_with_those_there_are(provider: LocalProvider) -> None:
    error = error_of(ModelNotFoundError, detect(provider, url("coffee.png"), model="picodet-416"))

    assert "did you mean 'picodet-s-416'" in str(error)
    assert SEGMENTER not in str(error)
    assert error.exit_code == 2


def test_a_model_for_another_task_is_answered_with_those_for_it(provider: LocalProvider) -> None:
    error = error_of(TaskNotSupportedError, detect(provider, url("coffee.png"), model=SEGMENTER))
    assert DETECTOR in str(error)

    request = TextImageConditionalGenerationInput(model=DETECTOR, prompt="What is it?")
    error = error_of(TaskNotSupportedError, provider.text_image_conditional_generation(request))
    assert "image_zero_shot_detection" in str(error)


def test_what_it_tells_of_itself_and_its_models(provider: LocalProvider) -> None:
    async def told() -> Any:
        await detect(provider, url("rocket.jpg"))
        return (
            await provider.get_capabilities(),
            await provider.get_server_info(),
            await provider.list_models(),
            await provider.list_models(InferenceTask.MASK_GENERATION),
            await provider.describe_model(DETECTOR),
            await provider.describe_model(SEGMENTER),
        )

    capabilities, server, models, segmenters, detector, segmenter = asyncio.run(told())

    assert {InferenceTask.OBJECT_DETECTION, InferenceTask.MASK_GENERATION} <= {*capabilities.tasks}
    assert server.app_name == "pixano-annotate"
    assert DETECTOR in server.models
    assert server.models_to_task[DETECTOR] == "image_zero_shot_detection"
    assert server.num_nodes == 1
    assert {(each.name, each.task, each.provider) for each in models} >= {
        (DETECTOR, "image_zero_shot_detection", "local"),
        (SEGMENTER, "image_mask_generation", "local"),
    }
    assert SEGMENTER in {each.name for each in segmenters}
    assert DETECTOR not in {each.name for each in segmenters}
    assert detector.digest.startswith("a9aa001b")
    assert detector.categories == COCO_CATEGORIES
    assert detector.license == segmenter.license == "Apache-2.0"
    assert detector.size is not None
    assert 2_000_000 < detector.size < 3_000_000
    assert segmenter.categories is None
    error_of(ModelNotFoundError, provider.describe_model("no-such-model"))


def test_describing_does_not_load() -> None:
    async def told() -> list[str]:
        provider = LocalProvider(concurrency=1)
        await provider.describe_model(SEGMENTER)
        models = (await provider.get_server_info()).models
        await provider.aclose()
        return models

    assert asyncio.run(told()) == []


def test_a_model_is_loaded_by_name_unloaded_and_loaded_again() -> None:
    async def life() -> list[list[str]]:
        provider = LocalProvider(concurrency=1)
        loaded = []
        await provider.instantiate_model("local", ModelConfig(DETECTOR, "detection"))
        loaded.append((await provider.get_server_info()).models)
        await provider.delete_model(DETECTOR)
        loaded.append((await provider.get_server_info()).models)
        assert (await detect(provider, url("chelsea.png"))).data.classes == ["cat"]
        loaded.append((await provider.get_server_info()).models)
        await provider.aclose()
        return loaded

    assert asyncio.run(life()) == [[DETECTOR], [], [DETECTOR]]


def test_a_named_instance_of_a_class() -> None:
    async def life() -> None:
        provider = LocalProvider(concurrency=1)
        config = ModelConfig(
            "mine", InferenceTask.OBJECT_DETECTION.value, config={"model_class": DETECTOR}
        )
        await provider.instantiate_model("local", config)
        assert (await detect(provider, url("chelsea.png"), model="mine")).data.classes == ["cat"]
        assert "mine" in {each.name for each in await provider.list_models()}
        with pytest.raises(InvalidRequestError, match="taken"):
            await provider.instantiate_model("local", config)
        await provider.delete_model("mine")
        with pytest.raises(ModelNotFoundError):
            await detect(provider, url("chelsea.png"), model="mine")
        with pytest.raises(ModelNotFoundError):
            await provider.delete_model("mine")
        await provider.aclose()

    asyncio.run(life())


@pytest.mark.parametrize(
    ("where", "config", "error"),
    [
        ("sam2", ModelConfig("mine", ""), InvalidRequestError),
        ("local", ModelConfig("mine", "", config={"model_class": "none"}), ModelNotFoundError),
        ("local", ModelConfig("mine", ""), ModelNotFoundError),
        ("local", ModelConfig(DETECTOR, "segmentation"), TaskNotSupportedError),
        (
            "local",
            ModelConfig("mine", "segmentation", config={"model_class": DETECTOR}),
            TaskNotSupportedError,
        ),
        (
            "local",
            ModelConfig("mine", "detecting", config={"model_class": DETECTOR}),
            TaskNotSupportedError,
        ),
        (
            "local",
            ModelConfig("mine", "", config={"model_class": DETECTOR, "sise": 3}),
            InvalidRequestError,
        ),
        (
            "local",
            ModelConfig("mine", "", config={"model_class": DETECTOR, "max_batch_size": "many"}),
            InvalidRequestError,
        ),
        (
            "local",
            ModelConfig(SEGMENTER, "", config={"model_class": DETECTOR}),
            InvalidRequestError,
        ),
    ],
)
def test_instances_that_cannot_be_made(
    provider: LocalProvider, where: str, config: ModelConfig, error: type[InferenceError]
) -> None:
    error_of(error, provider.instantiate_model(where, config))

    assert "mine" not in {each.name for each in asyncio.run(provider.list_models())}


def test_options_are_checked() -> None:
    for options in ({"device": "gpu"}, {"concurrency": 0}, {"batch_size": -1}):
        with pytest.raises(UsageError):
            LocalProvider(**options)


def test_when_closed_it_says_so() -> None:
    async def closed() -> None:
        provider = LocalProvider(concurrency=1)
        await provider.list_models()
        await provider.aclose()
        await detect(provider, url("chelsea.png"))

    assert "closed" in str(error_of(InferenceError, closed()))
