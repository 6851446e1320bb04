"""One name for several uses of a model, parameters for a model, and all masks of an image."""

import asyncio
import json
from collections.abc import Iterator

import numpy as np
import pytest

from pixano_cli import rle
from pixano_cli.annotate.catalogue import catalogue, find_model
from pixano_cli.cli.app import run as run_command_line
from pixano_cli.errors import UsageError
from pixano_cli.inference.errors import (
    InferenceError,
    InvalidRequestError,
    ModelNotFoundError,
    TaskNotSupportedError,
)
from pixano_cli.inference.everything import ImageEverythingInput
from pixano_cli.inference.providers.local import LocalProvider
from pixano_cli.inference.types import (
    ImageMaskGenerationInput,
    InferenceTask,
    ModelConfig,
    VideoMaskGenerationInput,
)
from pixano_cli.models import (
    EverythingInput,
    EverythingModel,
    ModelCard,
    PointMask,
    SegmentationInput,
    SegmentationOutput,
    TrackingInput,
    TrackingModel,
    TrackingOutput,
    base,
    plugins,
    register_model,
)

from .local_detectors import Picture

MASKS, TRACKS = InferenceTask.MASK_GENERATION, InferenceTask.VIDEO_MASK_GENERATION


def left_half(width: int, height: int) -> rle.CompressedRLEData:
    mask = np.zeros((height, width), np.bool_)
    mask[:, : width // 2] = True
    return rle.encode(mask)


class Still(EverythingModel):
    """Makes the left half of an image, whatever the prompt."""

    card = ModelCard("Halves of images", "MIT", "the tests")

    def load_model(self) -> None:
        pass

    def predict(self, input: SegmentationInput) -> SegmentationOutput:  # noqa: A002
        assert isinstance(input.image, np.ndarray)
        mask = left_half(input.image.shape[1], input.image.shape[0])
        boxes = input.boxes or []
        return SegmentationOutput(
            masks=[[mask] for _ in boxes], scores=np.ones((len(boxes), 1), np.float32)
        )

    def point_masks(self, request: EverythingInput) -> Iterator[PointMask]:
        width, height = request.image.shape[1], request.image.shape[0]
        mask = left_half(width, height)
        if width == 13:
            mask = left_half(width + 1, height)
        for index, point in enumerate(request.points):
            iou = float("nan") if width == 17 else 0.9 + index / 8
            yield PointMask(mask, iou, 0.987654321, point)


class Moving(TrackingModel):
    """Follows the left half."""

    card = ModelCard("Halves of videos", "MIT", "the tests")

    def load_model(self) -> None:
        pass

    def predict(self, input: TrackingInput) -> TrackingOutput:  # noqa: A002
        first = input.video[0]
        assert isinstance(first, np.ndarray)
        mask = left_half(first.shape[1], first.shape[0])
        return TrackingOutput(objects_ids=[4], frame_indexes=[0], masks=[mask])


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins.discover_models()
    monkeypatch.setattr(base, "_REGISTRY", dict(base._REGISTRY))
    register_model("half")(Moving)
    register_model("half")(Still)


def ask(provider: LocalProvider, image: str) -> list[rle.CompressedRLEData]:
    async def both() -> list[rle.CompressedRLEData]:
        masks = await provider.image_mask_generation(
            ImageMaskGenerationInput(image, "half", boxes=[[0.0, 0.0, 2.0, 2.0]])
        )
        tracks = await provider.video_mask_generation(
            VideoMaskGenerationInput([image], "half", [4], [0], boxes=[[0.0, 0.0, 2.0, 2.0]])
        )
        return [masks.data.masks[0][0], tracks.data.masks[0]]

    return asyncio.run(both())


def test_a_name_is_asked_for_each_of_its_uses(provider: LocalProvider, picture: Picture) -> None:
    assert ask(provider, picture(20, 10)) == [left_half(20, 10)] * 2
    info = asyncio.run(provider.get_server_info())
    assert info.models == ["half"]
    assert info.models_to_task == {"half": MASKS.value}
    listed = [
        (each.name, each.task, each.model_class)
        for each in asyncio.run(provider.list_models())
        if each.name == "half"
    ]
    assert listed == [("half", MASKS.value, "Still"), ("half", TRACKS.value, "Moving")]
    only = asyncio.run(provider.list_models(TRACKS))
    assert [each.model_class for each in only if each.name == "half"] == ["Moving"]


def test_a_name_is_described_for_each_of_its_uses(provider: LocalProvider) -> None:
    async def described() -> list[tuple[str, str, bool]]:
        asked = [None, MASKS, TRACKS, InferenceTask.OBJECT_DETECTION]
        found = [await provider.describe_model("half", task) for task in asked]
        return [(each.task.value, each.description, each.gives_everything) for each in found]

    still = (MASKS.value, "Halves of images", True)
    moving = (TRACKS.value, "Halves of videos", False)
    assert asyncio.run(described()) == [still, still, moving, still]
    found = {(each.name, each.task) for each in catalogue()[0]}
    assert {("half", MASKS), ("half", TRACKS), ("mobile-sam", MASKS)} <= found
    assert [each.task for each in find_model("half")] == [MASKS, TRACKS]
    assert [each.gives_everything for each in find_model("mobile-sam")] == [True]
    with pytest.raises(ModelNotFoundError, match="half"):
        find_model("hal")


def test_people_see_both_uses(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["models", "list"]) == 0
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert [row for row in rows if row[0] == "half"] == [
        ["half", MASKS.value],
        ["half", TRACKS.value],
    ]
    assert run_command_line(["models", "show", "half", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["name"] == "half"
    assert shown["task"] == [MASKS.value, TRACKS.value]
    assert shown["licence"] == "MIT"
    assert run_command_line(["models", "show", "half"]) == 0
    assert f"task:        {MASKS.value}, {TRACKS.value}\n" in capsys.readouterr().out
    assert run_command_line(["models", "show", "mobile-sam", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["task"] == MASKS.value


def test_a_task_that_no_use_does_is_told_with_those_that_do(provider: LocalProvider) -> None:
    from pixano_cli.inference.types import ImageZeroShotDetectionInput

    request = ImageZeroShotDetectionInput("file:///a.png", "half", [])
    match = f"'half' does {MASKS.value} and {TRACKS.value}, not image_zero_shot_detection: use one"
    with pytest.raises(TaskNotSupportedError, match=match):
        asyncio.run(provider.image_zero_shot_detection(request))


def test_both_uses_are_unloaded_and_a_named_instance_is_of_one(
    provider: LocalProvider, picture: Picture
) -> None:
    image = picture(20, 10)
    ask(provider, image)

    async def life() -> list[str]:
        await provider.delete_model("half")
        assert (await provider.get_server_info()).models == []
        config = ModelConfig("mine", TRACKS.value, config={"model_class": "half"})
        await provider.instantiate_model("local", config)
        listed = await provider.list_models()
        with pytest.raises(InvalidRequestError, match="taken"):
            await provider.instantiate_model("local", config)
        first = ModelConfig("first", "", config={"model_class": "half"})
        await provider.instantiate_model("local", first)
        assert (await provider.describe_model("first")).task is MASKS
        await provider.delete_model("mine")
        with pytest.raises(ModelNotFoundError):
            await provider.describe_model("mine")
        wrong = ModelConfig("no", "detection", config={"model_class": "half"})
        with pytest.raises(TaskNotSupportedError, match="segmentation and tracking"):
            await provider.instantiate_model("local", wrong)
        return [each.task for each in listed if each.name == "mine"]

    assert asyncio.run(life()) == [TRACKS.value]
    assert ask(provider, image) == [left_half(20, 10)] * 2


def test_parameters_reach_all_uses_of_the_name_they_are_for() -> None:
    provider = LocalProvider(model_params={"half": {"path": "own.pt", "device": "tpu"}})

    async def told() -> tuple[set[str], set[str | None], str]:
        uses = [await provider.describe_model("half", task) for task in (MASKS, TRACKS)]
        listed = await provider.list_models()
        plain = LocalProvider()
        try:
            unlike = (await plain.describe_model("half")).digest
        finally:
            await plain.aclose()
            await provider.aclose()
        paths = {each.model_path for each in listed if each.name == "half"}
        return {each.digest for each in uses}, paths, unlike

    digests, paths, unlike = asyncio.run(told())
    assert len(digests | {unlike}) == 3  # of the two classes, and of one without the parameters
    assert paths == {"own.pt"}


def test_a_model_with_its_weights_in_its_package_takes_no_parameters() -> None:
    provider = LocalProvider(model_params={"mobile-sam": {"path": "own.pt"}})
    for asked in (provider.describe_model("mobile-sam"), provider.list_models()):
        with pytest.raises(UsageError, match=r"'mobile-sam' has its weights in its package"):
            asyncio.run(asked)
    asyncio.run(provider.aclose())


def test_everything_is_sorted_and_rounded(provider: LocalProvider, picture: Picture) -> None:
    request = ImageEverythingInput(picture(20, 10), "half", 2)
    result = asyncio.run(provider.image_everything(request))
    answer = result.data
    assert answer.masks == [left_half(20, 10)] * 4
    assert answer.scores == [1.0, 1.0, 1.0, 0.9]
    assert answer.stabilities == [0.98765] * 4
    assert answer.points == [[15.0, 7.5], [5.0, 7.5], [15.0, 2.5], [5.0, 2.5]]
    assert result.metadata["provider"] == "local"


def test_everything_that_cannot_be_asked_or_read(provider: LocalProvider, picture: Picture) -> None:
    def error_of(kind: type[Exception], width: int, model: str = "half", side: int = 2) -> str:
        request = ImageEverythingInput(picture(width, 10), model, side)
        with pytest.raises(kind) as caught:
            asyncio.run(provider.image_everything(request))
        return str(caught.value)

    assert "failed on 13x10.png" in error_of(InferenceError, 13)
    assert "not finite" in error_of(InferenceError, 17)
    assert "0 points per side" in error_of(InvalidRequestError, 20, side=0)
    assert "not image_mask_generation" in error_of(TaskNotSupportedError, 20, "picodet-s-416")
    error_of(ModelNotFoundError, 20, "whole")
