"""The dataclasses against the signatures of the published interface, and their dictionaries."""

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_cli.inference import types
from pixano_cli.inference.types import (
    CompressedRLEData,
    ImageMaskGenerationInput,
    ImageMaskGenerationOutput,
    InferenceTask,
    ModelConfig,
    NDArrayData,
    TextImageConditionalGenerationInput,
    TextImageConditionalGenerationOutput,
    UsageInfo,
)

PUBLISHED = [
    "CompressedRLEData(size, counts)",
    "ImageMaskGenerationInput(image, model, image_embedding=None, high_resolution_features=None, "
    "reset_predictor=True, points=None, labels=None, boxes=None, num_multimask_outputs=3, "
    "multimask_output=True, return_image_embedding=False)",
    "ImageMaskGenerationOutput(masks, scores, image_embedding=None, high_resolution_features=None)",
    "ImageMaskGenerationResult(data, timestamp, processing_time, metadata, id='', "
    "status='SUCCESS')",
    "ImageZeroShotDetectionInput(image, model, classes, box_threshold=0.5, text_threshold=0.5)",
    "ImageZeroShotDetectionOutput(boxes, scores, classes)",
    "ImageZeroShotDetectionResult(data, timestamp, processing_time, metadata, id='', "
    "status='SUCCESS')",
    "ModelConfig(name, task, path=None, config=dict(), processor_config=dict())",
    "ModelInfo(name, task, model_path=None, model_class=None, provider=None)",
    "NDArrayData(values, shape)",
    "ProviderCapabilities(tasks, supports_batching=False, supports_streaming=False, "
    "max_image_size=None)",
    "ServerInfo(app_name, app_version, app_description, num_cpus, num_gpus, num_nodes, gpus_used, "
    "gpu_to_model, models, models_to_task)",
    "TextImageConditionalGenerationInput(model, prompt, images=None, max_new_tokens=100, "
    "temperature=1.0)",
    "TextImageConditionalGenerationOutput(generated_text, usage, generation_config=dict())",
    "TextImageConditionalGenerationResult(data, timestamp, processing_time, metadata, id='', "
    "status='SUCCESS')",
    "UsageInfo(prompt_tokens, completion_tokens, total_tokens)",
    "VideoMaskGenerationInput(video, model, objects_ids, frame_indexes, points=None, labels=None, "
    "boxes=None)",
    "VideoMaskGenerationOutput(objects_ids, frame_indexes, masks)",
    "VideoMaskGenerationResult(data, status, timestamp, processing_time, metadata, id='')",
]


def signature_of(data_class: type) -> str:
    factories: dict[str, Any] = {
        field.name: field.default_factory
        for field in dataclasses.fields(data_class)
        if field.default_factory is not dataclasses.MISSING
    }
    parameters = []
    for name, parameter in inspect.signature(data_class).parameters.items():
        if name in factories:
            parameters.append(f"{name}={factories[name].__name__}()")
        elif parameter.default is not inspect.Parameter.empty:
            parameters.append(f"{name}={parameter.default!r}")
        else:
            parameters.append(name)
    return f"{data_class.__name__}({', '.join(parameters)})"


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda line: line.partition("(")[0])
def test_signature_is_the_published_one(published: str) -> None:
    data_class = getattr(types, published.partition("(")[0])
    assert signature_of(data_class) == published


def test_every_public_name_is_published() -> None:
    published = {line.partition("(")[0] for line in PUBLISHED}
    assert set(types.__all__) == published | {"InferenceTask"}


def test_tasks_are_text_on_the_wire() -> None:
    assert {task.name: task.value for task in InferenceTask} == {
        "MASK_GENERATION": "image_mask_generation",
        "VIDEO_MASK_GENERATION": "video_mask_generation",
        "OBJECT_DETECTION": "image_zero_shot_detection",
        "TEXT_GENERATION": "text_image_conditional_generation",
    }
    assert json.dumps([InferenceTask.OBJECT_DETECTION]) == '["image_zero_shot_detection"]'
    assert issubclass(InferenceTask, str)


finite = st.floats(allow_nan=False, allow_infinity=False)
arrays = st.builds(NDArrayData, st.lists(finite, max_size=6), st.lists(st.integers(0, 9)))
rles = st.builds(
    CompressedRLEData,
    st.lists(st.integers(0, 5000), min_size=2, max_size=2),
    st.text(st.characters(min_codepoint=48, max_codepoint=111)).map(str.encode),
)


@given(arrays)
def test_array_survives_json(array: NDArrayData) -> None:
    assert NDArrayData.from_dict(json.loads(json.dumps(array.to_dict()))) == array


@given(rles)
def test_rle_survives_json(rle: CompressedRLEData) -> None:
    assert CompressedRLEData.from_dict(json.loads(json.dumps(rle.to_dict()))) == rle


@pytest.mark.parametrize("data_class", [NDArrayData, CompressedRLEData])
def test_incomplete_dictionary_is_refused(data_class: type) -> None:
    with pytest.raises(KeyError):
        data_class.from_dict({"shape": [1], "size": [1, 1]})  # type: ignore[attr-defined]


plain = st.dictionaries(st.text(), st.integers() | st.text() | st.none(), max_size=3)


@given(st.text(), st.text(), st.none() | st.text(min_size=1), plain, plain)
def test_model_config_is_its_dictionary(
    name: str, task: str, path: str | None, config: dict[str, object], processor: dict[str, object]
) -> None:
    given_config = ModelConfig(name, task, path, config, processor)
    assert ModelConfig(**json.loads(json.dumps(given_config.to_dict()))) == given_config


def test_model_config_writes_a_path_as_text() -> None:
    assert ModelConfig("m", "t", Path("weights") / "m.pt").to_dict()["path"] == "weights/m.pt"
    assert ModelConfig("m", "t", "").to_dict()["path"] is None


coordinates = st.lists(st.lists(finite, min_size=4, max_size=4), max_size=3)


@given(st.text(), coordinates, st.none() | arrays)
def test_input_is_its_dictionary(
    image: str, boxes: list[list[float]], embedding: NDArrayData | None
) -> None:
    asked = ImageMaskGenerationInput(image, "m", boxes=boxes, image_embedding=embedding)
    read = json.loads(json.dumps(asked.to_dict()))
    if read["image_embedding"] is not None:
        read["image_embedding"] = NDArrayData.from_dict(read["image_embedding"])
    assert ImageMaskGenerationInput(**read) == asked


@given(st.lists(st.lists(rles, max_size=3), max_size=3), arrays)
def test_output_is_its_dictionary(
    masks: list[list[CompressedRLEData]], scores: NDArrayData
) -> None:
    read = json.loads(json.dumps(ImageMaskGenerationOutput(masks, scores).to_dict()))
    assert [[CompressedRLEData.from_dict(one) for one in each] for each in read["masks"]] == masks
    assert NDArrayData.from_dict(read["scores"]) == scores


def test_paths_and_nested_values_become_plain() -> None:
    asked = TextImageConditionalGenerationInput("m", "what?", images=[Path("a/b.png"), "c.png"])
    assert asked.to_dict() == {
        "model": "m",
        "prompt": "what?",
        "images": ["a/b.png", "c.png"],
        "max_new_tokens": 100,
        "temperature": 1.0,
    }
    answer = TextImageConditionalGenerationOutput("a cat", UsageInfo(3, 2, 5), {"seed": 1})
    assert answer.to_dict() == {
        "generated_text": "a cat",
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        "generation_config": {"seed": 1},
    }
