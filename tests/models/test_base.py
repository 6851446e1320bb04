"""The contract of a local model."""

import hashlib
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import pixano_cli.models as public
from pixano_cli.errors import ModelError
from pixano_cli.models import (
    EmbeddingInput,
    InferenceModel,
    ModelCard,
    ModelDeploymentConfig,
    TrackingInput,
    UsageInfo,
    VLMInput,
    VLMModel,
    VLMOutput,
    WeightFile,
    base,
    register_model,
)
from pixano_cli.models.base import (
    registered_models,
    registered_uses,
    registering_all_or_none,
)


class Parrot(VLMModel):
    """Says the prompt again."""

    def load_model(self) -> None:
        """It has nothing to load."""

    def predict(self, input: VLMInput) -> VLMOutput:  # noqa: A002
        text = str(input.prompt)
        words = len(text.split())
        usage = UsageInfo(prompt_tokens=words, completion_tokens=words, total_tokens=2 * words)
        return VLMOutput(generated_text=text, usage=usage)


def config(**model_params: Any) -> ModelDeploymentConfig:
    return ModelDeploymentConfig(
        name="parrot", capability="vlm", model_class="Parrot", model_params=model_params
    )


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_REGISTRY", {})


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with a file of weights, `net.bin`."""
    (tmp_path / "weighty").mkdir()
    (tmp_path / "weighty" / "__init__.py").touch()
    (tmp_path / "weighty" / "net.bin").write_bytes(b"weights")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "weighty", raising=False)
    return "weighty"


WEIGHTS_SHA256 = hashlib.sha256(b"weights").hexdigest()


def test_configuration_has_the_published_fields_and_defaults() -> None:
    assert config().model_dump() == {
        "name": "parrot",
        "capability": "vlm",
        "model_class": "Parrot",
        "model_params": {},
        "resources": {"num_gpus": 0.0, "num_cpus": 1.0, "memory_mb": None},
        "autoscaling": {
            "min_replicas": 1,
            "max_replicas": 4,
            "target_num_ongoing_requests_per_replica": 2,
            "downscale_delay_s": 60,
            "upscale_delay_s": 5,
        },
        "max_batch_size": 1,
        "batch_wait_timeout_s": 0.1,
    }


def test_model_tells_its_configuration() -> None:
    model = Parrot(config())
    assert (model.model_name, model.capability, model.config) == ("parrot", "vlm", config())
    assert model.metadata == {
        "model_name": "parrot",
        "capability": "vlm",
        "model_class": "Parrot",
    }
    prompts = [VLMInput(prompt="what is it"), VLMInput(prompt="a cat")]
    answers = model.predict_batch(prompts)
    assert [answer.generated_text for answer in answers] == ["what is it", "a cat"]
    assert answers[0].usage.total_tokens == 6


def test_abstract_model_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        VLMModel(config())  # type: ignore[abstract]


def test_public_names_are_those_of_plugin_authors() -> None:
    capabilities = ("Detection", "Segmentation", "Tracking", "VLM", "Embedding")
    for capability in capabilities:
        for part in ("Model", "Input", "Output"):
            assert f"{capability}{part}" in public.__all__
    for name in public.__all__:
        assert getattr(public, name).__name__ == name


def test_weights_are_read_whole_and_checked(package: str) -> None:
    weights = WeightFile(package, "net.bin", WEIGHTS_SHA256)
    assert weights.size == 7
    assert weights.read() == b"weights"


def test_damaged_weights_are_refused(package: str) -> None:
    weights = WeightFile(package, "net.bin", "0" * 64)
    with pytest.raises(ModelError, match=r"net\.bin of weighty are damaged .*: install .* again"):
        weights.read()


@pytest.mark.parametrize(("place", "name"), [("weighty", "no.bin"), ("nowhere_at_all", "net.bin")])
@pytest.mark.usefixtures("package")
def test_missing_weights_are_told(place: str, name: str) -> None:
    weights = WeightFile(place, name, WEIGHTS_SHA256)
    for read in (weights.read, lambda: weights.size):
        with pytest.raises(ModelError, match=f"{re.escape(name)} of {place} cannot be read"):
            read()


def with_weights(*digests: str) -> type[Parrot]:
    files = tuple(WeightFile("p", f"{i}.bin", digest) for i, digest in enumerate(digests))
    card = ModelCard("says it again", "MIT", "the woods", files)
    return type("Carded", (Parrot,), {"card": card})


def test_digest_of_one_file_of_weights_is_that_files() -> None:
    carded = with_weights("ab" * 32)
    assert carded(config()).digest == "ab" * 32
    assert carded(config(device="cuda")).digest == "ab" * 32


def test_digest_tells_apart_what_changes_answers() -> None:
    one, other = with_weights("ab" * 32), with_weights("cd" * 32)
    both, reverse = with_weights("ab" * 32, "cd" * 32), with_weights("cd" * 32, "ab" * 32)
    renamed = type("Renamed", (Parrot,), {})
    digests = [
        model.digest
        for model in (
            one(config()),
            other(config()),
            both(config()),
            reverse(config()),
            Parrot(config()),
            renamed(config()),
            one(config(side=640)),
            one(config(side=416)),
            Parrot(config(side=416)),
        )
    ]
    assert len(set(digests)) == len(digests)
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)
    assert one(config(a=1, b=2)).digest == one(config(b=2, a=1, device="cpu")).digest


def test_registered_under_a_name_or_its_own() -> None:
    assert register_model("polly")(Parrot) is Parrot
    assert register_model()(Parrot) is Parrot
    assert list(registered_models()) == ["Parrot", "polly"]
    register_model("polly")(Parrot)
    other: type[InferenceModel[Any, Any]] = type("Other", (Parrot,), {})
    with pytest.raises(ValueError, match=f"'polly' is already registered by {Parrot.__module__}"):
        register_model("polly")(other)


def test_a_name_may_have_a_class_for_each_capability() -> None:
    other: type[InferenceModel[Any, Any]] = type(
        "Other", (Parrot,), {"capability_name": "tracking", "__module__": Parrot.__module__}
    )
    register_model("polly")(other)
    register_model("polly")(Parrot)
    register_model("anna")(Parrot)
    assert registered_uses() == [("anna", Parrot), ("polly", other), ("polly", Parrot)]
    assert registered_models() == {"anna": Parrot, "polly": other}
    stranger: type[InferenceModel[Any, Any]] = type(
        "Stranger", (Parrot,), {"capability_name": "vlm", "__module__": "elsewhere.models"}
    )
    with pytest.raises(ValueError, match=f"'polly' is already registered by {Parrot.__module__}"):
        register_model("polly")(stranger)


def test_failed_block_registers_nothing() -> None:
    register_model("before")(Parrot)

    @registering_all_or_none()
    def fail() -> None:
        register_model("within")(Parrot)
        register_model("before")(Parrot)
        raise SystemExit

    with pytest.raises(SystemExit):
        fail()
    assert list(registered_models()) == ["before"]
    with registering_all_or_none():
        register_model("within")(Parrot)
    assert list(registered_models()) == ["before", "within"]


def test_embedding_is_of_images_or_texts() -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)
    assert EmbeddingInput(image=pixels).image is pixels
    assert EmbeddingInput(image=[pixels, "a.png"]).normalize
    neither: dict[str, Any] = {}
    for wrong in (neither, {"image": "a.png", "text": "a cat"}):
        with pytest.raises(ValidationError, match="either image or text"):
            EmbeddingInput(**wrong)


def tracking(**changes: Any) -> TrackingInput:
    prompts: dict[str, Any] = {"objects_ids": [7, 8], "frame_indexes": [0, 1]}
    return TrackingInput(**{"video": ["a.png", "b.png"], **prompts, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objects_ids": [7, 7]}, "not all different"),
        ({"frame_indexes": [0]}, "frame_indexes has not one entry"),
        ({"boxes": [[0, 0, 1, 1]]}, "boxes has not one entry"),
        ({"points": [[[1, 2]], [[3, 4]]]}, "points and labels go together"),
        ({"frame_indexes": [0, 2]}, "beyond the frames"),
    ],
)
def test_tracking_prompts_belong_to_objects_and_frames(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        tracking(**changes)
    assert tracking(boxes=[[0, 0, 1.5, 1], [1, 1, 2, 2]]).objects_ids == [7, 8]
