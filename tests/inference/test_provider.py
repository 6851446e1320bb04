"""The interface against its published signatures, and what it does by default."""

import asyncio
import inspect
import subprocess
import sys
from typing import Any

import pytest

from pixano_cli.errors import PixanoAnnotateError
from pixano_cli.inference import errors
from pixano_cli.inference.errors import ModelNotFoundError, TaskNotSupportedError
from pixano_cli.inference.provider import InferenceProvider, ModelDescription
from pixano_cli.inference.types import (
    ImageMaskGenerationInput,
    ImageMaskGenerationResult,
    ImageZeroShotDetectionInput,
    ImageZeroShotDetectionResult,
    InferenceTask,
    ModelConfig,
    ModelInfo,
    ProviderCapabilities,
    ServerInfo,
    TextImageConditionalGenerationInput,
    TextImageConditionalGenerationResult,
    VideoMaskGenerationInput,
    VideoMaskGenerationResult,
)

ABSTRACT = [
    "get_capabilities()",
    "get_server_info()",
    "image_mask_generation(input_data, timeout=60.0)",
    "image_zero_shot_detection(input_data, timeout=60.0)",
    "list_models(task=None)",
    "text_image_conditional_generation(input_data, timeout=60.0)",
    "video_mask_generation(input_data, timeout=120.0)",
]
CONCRETE = ["delete_model(model_name)", "instantiate_model(provider, config, timeout=60)"]


def signature_of(method: Any) -> str:
    parameters = [
        name if parameter.default is inspect.Parameter.empty else f"{name}={parameter.default!r}"
        for name, parameter in inspect.signature(method).parameters.items()
        if name != "self"
    ]
    return f"{method.__name__}({', '.join(parameters)})"


@pytest.mark.parametrize("published", ABSTRACT + CONCRETE)
def test_method_is_the_published_one(published: str) -> None:
    method = getattr(InferenceProvider, published.partition("(")[0])
    assert signature_of(method) == published
    assert inspect.iscoroutinefunction(method)


def test_abstract_are_the_published_ones() -> None:
    published = {line.partition("(")[0] for line in ABSTRACT}
    assert InferenceProvider.__abstractmethods__ == published | {"name"}
    assert isinstance(inspect.getattr_static(InferenceProvider, "name"), property)


class Catalogue(InferenceProvider):
    """A provider that has models and answers nothing."""

    def __init__(self, *models: ModelInfo) -> None:
        self.models = list(models)

    @property
    def name(self) -> str:
        return "catalogue"

    async def get_capabilities(self) -> ProviderCapabilities:
        return ProviderCapabilities([])

    async def get_server_info(self) -> ServerInfo:
        raise NotImplementedError

    async def list_models(self, task: InferenceTask | None = None) -> list[ModelInfo]:
        return [model for model in self.models if task in (None, model.task)]

    async def image_mask_generation(
        self, input_data: ImageMaskGenerationInput, timeout: float = 60.0
    ) -> ImageMaskGenerationResult:
        raise NotImplementedError

    async def image_zero_shot_detection(
        self, input_data: ImageZeroShotDetectionInput, timeout: float = 60.0
    ) -> ImageZeroShotDetectionResult:
        raise NotImplementedError

    async def text_image_conditional_generation(
        self, input_data: TextImageConditionalGenerationInput, timeout: float = 60.0
    ) -> TextImageConditionalGenerationResult:
        raise NotImplementedError

    async def video_mask_generation(
        self, input_data: VideoMaskGenerationInput, timeout: float = 120.0
    ) -> VideoMaskGenerationResult:
        raise NotImplementedError


def test_models_are_the_administrators_by_default() -> None:
    provider = Catalogue()
    for call in (
        provider.instantiate_model("sam2", ModelConfig("m", "t")),
        provider.delete_model("m"),
    ):
        with pytest.raises(TaskNotSupportedError) as raised:
            asyncio.run(call)
        assert str(raised.value) == "Model deployment is managed by the server administrator"


def test_description_comes_from_the_list_by_default() -> None:
    provider = Catalogue(ModelInfo("yolo", "image_zero_shot_detection"))
    described = asyncio.run(provider.describe_model("yolo"))
    assert described == ModelDescription("yolo", InferenceTask.OBJECT_DETECTION)
    assert (described.digest, described.size, described.categories) == ("", None, None)


def test_unknown_model_is_told_with_the_one_meant() -> None:
    provider = Catalogue(ModelInfo("yolo", "ner"), ModelInfo("sam2", "image_mask_generation"))
    with pytest.raises(ModelNotFoundError, match=r"no model 'yollo': did you mean 'yolo'\?") as e:
        asyncio.run(provider.describe_model("yollo"))
    assert "known: sam2, yolo" in str(e.value)
    with pytest.raises(ModelNotFoundError, match="none is known"):
        asyncio.run(Catalogue().describe_model("yolo"))
    with pytest.raises(TaskNotSupportedError, match="'yolo' of provider 'catalogue' does 'ner'"):
        asyncio.run(provider.describe_model("yolo"))


def test_closing_does_nothing_by_default() -> None:
    provider = Catalogue(ModelInfo("yolo", "image_zero_shot_detection"))
    asyncio.run(provider.aclose())
    assert asyncio.run(provider.list_models(InferenceTask.OBJECT_DETECTION)) == provider.models


@pytest.mark.parametrize(
    ("name", "exit_code"),
    [
        ("ProviderNotFoundError", 2),
        ("ProviderConnectionError", 1),
        ("InferenceTimeoutError", 1),
        ("ModelNotFoundError", 2),
        ("TaskNotSupportedError", 2),
        ("InvalidRequestError", 1),
    ],
)
def test_errors_are_one_flat_family(name: str, exit_code: int) -> None:
    error = getattr(errors, name)
    assert error.__bases__ == (errors.InferenceError,)
    assert errors.InferenceError.__bases__ == (PixanoAnnotateError,)
    assert error.exit_code == exit_code


def test_the_room_is_light_to_import() -> None:
    heavy = "{'onnxruntime', 'torch', 'PIL', 'pyarrow', 'pycocotools', 'sqlalchemy', 'pydantic'}"
    code = f"import pixano_cli.inference, sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
