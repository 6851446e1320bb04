"""The contract of a local model: its class, its configuration, its card, its registration."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from pixano_cli.annotations import Category
from pixano_cli.errors import ModelError

RGBImage = NDArray[np.uint8]
"""Pixels [height, width, 3], RGB, 0 to 255, of an image as displayed."""

InputT = TypeVar("InputT", bound=BaseModel)
OutputT = TypeVar("OutputT", bound=BaseModel)
UsedT = TypeVar("UsedT")
ModelClassT = TypeVar("ModelClassT", bound="type[InferenceModel[Any, Any]]")


class ResourceConfig(BaseModel):
    """What a deployed model may use.

    Attributes:
        num_gpus: Number of GPUs.
        num_cpus: Number of CPUs.
        memory_mb: Memory limit in MB; None means no limit.
    """

    num_gpus: float = 0.0
    num_cpus: float = 1.0
    memory_mb: int | None = None


class AutoscalingConfig(BaseModel):
    """How a server scales a deployed model; kept for configurations written for one.

    Attributes:
        min_replicas: Fewest replicas.
        max_replicas: Most replicas.
        target_num_ongoing_requests_per_replica: Requests one replica should have under way.
        downscale_delay_s: Seconds before scaling down.
        upscale_delay_s: Seconds before scaling up.
    """

    min_replicas: int = 1
    max_replicas: int = 4
    target_num_ongoing_requests_per_replica: int = 2
    downscale_delay_s: float = 60
    upscale_delay_s: float = 5


class ModelDeploymentConfig(BaseModel):
    """Configuration of one model.

    Attributes:
        name: Unique model name.
        capability: What it does: "detection", "segmentation", "tracking", "vlm" or "embedding".
        model_class: Name the class is registered under.
        model_params: Parameters for the model; `device` is one of them.
        resources: What it may use.
        autoscaling: How a server scales it.
        max_batch_size: Most inputs given to `predict_batch` at once; 1 disables batching.
        batch_wait_timeout_s: Seconds to wait for a batch to fill.
    """

    name: str
    capability: str
    model_class: str
    model_params: dict[str, Any] = Field(default_factory=dict)
    resources: ResourceConfig = Field(default_factory=ResourceConfig)
    autoscaling: AutoscalingConfig = Field(default_factory=AutoscalingConfig)
    max_batch_size: int = 1
    batch_wait_timeout_s: float = 0.1


@dataclass(frozen=True, slots=True)
class WeightFile:
    """A file of weights shipped as package data of `package`."""

    package: str
    name: str
    sha256: str

    @property
    def size(self) -> int:
        """Size in bytes.

        Raises:
            ModelError: If the file is missing.
        """
        return self._use(lambda path: path.stat().st_size)

    def read(self) -> bytes:
        """Return the content after checking its digest.

        Raises:
            ModelError: If the file is missing or is not what it was when it was packaged.
        """
        content = self._use(Path.read_bytes)
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise ModelError(
                f"weights {self.name} of {self.package} are damaged (sha256 differs): "
                "install the package again"
            )
        return content

    def _use(self, use: Callable[[Path], UsedT]) -> UsedT:
        try:
            file = resources.files(self.package).joinpath(self.name)
            with resources.as_file(file) as path:
                return use(path)
        except (OSError, ImportError) as error:
            raise ModelError(
                f"weights {self.name} of {self.package} cannot be read ({error}): "
                "install the package again"
            ) from error


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known of a model without loading it.

    Attributes:
        description: One line for people.
        license: SPDX identifier of the weights' licence.
        origin: Where the weights come from.
        weights: The files of weights.
        categories: The classes of a model with a class set of its own; None for a model that
            detects whatever classes are named, or that knows no classes.
        embedding_size: Numbers in a vector of a model that embeds; None for any other model, or if
            that is not known before it is loaded.
    """

    description: str
    license: str
    origin: str
    weights: tuple[WeightFile, ...] = ()
    categories: tuple[Category, ...] | None = None
    embedding_size: int | None = None


class InferenceModel(ABC, Generic[InputT, OutputT]):
    """Base of every local model.

    A model is made with its configuration, loaded once, and then asked from several threads at
    once: `predict` must not keep state between calls.

    Example:
        ```python
        @register_model("my-detector")
        class MyDetector(DetectionModel):
            def load_model(self):
                self.net = load_weights(self.config.model_params["path"])

            def predict(self, input: DetectionInput) -> DetectionOutput:
                boxes, scores, classes = self.net(input.image)
                return DetectionOutput(boxes=boxes, scores=scores, classes=classes)
        ```
    """

    capability_name: ClassVar[str | None] = None
    card: ClassVar[ModelCard | None] = None

    def __init__(self, config: ModelDeploymentConfig) -> None:
        """Initialize the model with deployment config.

        Args:
            config: Model deployment configuration.
        """
        self._config = config

    @property
    def config(self) -> ModelDeploymentConfig:
        """Model deployment configuration."""
        return self._config

    @property
    def model_name(self) -> str:
        """Unique model name."""
        return self._config.name

    @property
    def capability(self) -> str:
        """Capability handled by this model."""
        return self._config.capability

    @property
    def metadata(self) -> dict[str, Any]:
        """Model metadata. Override for custom metadata."""
        return {
            "model_name": self.model_name,
            "capability": self.capability,
            "model_class": self._config.model_class,
        }

    @property
    def digest(self) -> str:
        """Hex digest of what determines the model's answers: its weights and its parameters.

        The digest of the weights' file, where the card names one and there are no parameters but
        the device. A class whose card names no weights stands for itself, by module and name; one
        that has weights of its own outside its card overrides this.
        """
        weights = [file.sha256 for file in self.card.weights] if self.card else []
        parameters = {
            key: value for key, value in self._config.model_params.items() if key != "device"
        }
        if len(weights) == 1 and not parameters:
            return weights[0]
        subject = weights or [type(self).__module__, type(self).__qualname__]
        identity = json.dumps([subject, parameters], sort_keys=True, default=str)
        return hashlib.sha256(identity.encode()).hexdigest()

    @abstractmethod
    def load_model(self) -> None:
        """Load weights and whatever `predict` needs. Called once, before the first `predict`.

        Raises:
            ModelError: If the weights are missing or damaged.
        """

    @abstractmethod
    def predict(self, input: InputT) -> OutputT:  # noqa: A002 - the published name
        """Run inference on one input.

        Args:
            input: The capability's input.

        Returns:
            The capability's output.
        """

    def predict_batch(self, inputs: list[InputT]) -> list[OutputT]:
        """Run inference on several inputs; one output each, in order.

        Override it where one pass over many is faster, and have `max_batch_size` above 1.
        """
        return [self.predict(each) for each in inputs]

    def unload(self) -> None:
        """Free what `load_model` took. Override for custom cleanup."""


_REGISTRY: dict[tuple[str, str], type[InferenceModel[Any, Any]]] = {}


def register_model(name: str | None = None) -> Callable[[ModelClassT], ModelClassT]:
    """Register a model class under `name`, by default the class's own.

    One name may stand for several uses of one model: a class a capability, all from one package.

    Raises:
        ValueError: If another class has the name already.
    """

    def register(model_class: ModelClassT) -> ModelClassT:
        registered = name or model_class.__name__
        capability = model_class.capability_name or ""
        for (known_name, known_capability), known in _REGISTRY.items():
            if known_name == registered and (
                (known is not model_class and known_capability == capability)
                or _package(known) != _package(model_class)
            ):
                raise ValueError(
                    f"model {registered!r} is already registered by {known.__module__}"
                )
        _REGISTRY[registered, capability] = model_class
        return model_class

    return register


def _package(model_class: type[InferenceModel[Any, Any]]) -> str:
    return model_class.__module__.partition(".")[0]


@contextmanager
def registering_all_or_none() -> Iterator[None]:
    """Take back what was registered inside the block if the block raises."""
    before = set(_REGISTRY)
    try:
        yield
    except BaseException:
        for key in set(_REGISTRY) - before:
            del _REGISTRY[key]
        raise


def registered_uses() -> list[tuple[str, type[InferenceModel[Any, Any]]]]:
    """Return every registered name with its class, in order of name, then of capability."""
    return [(key[0], _REGISTRY[key]) for key in sorted(_REGISTRY)]


def registered_models() -> dict[str, type[InferenceModel[Any, Any]]]:
    """Return the registered model classes by name, in order of name.

    Of a name with several uses, the one whose capability comes first in the alphabet.
    """
    models: dict[str, type[InferenceModel[Any, Any]]] = {}
    for name, model_class in registered_uses():
        models.setdefault(name, model_class)
    return models
