"""Which generation of Pixano Inference a server is, and how each tells of itself and its models."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel

from pixano_cli.inference.embedding import AnyTask, EmbeddingTask
from pixano_cli.inference.errors import InferenceError
from pixano_cli.inference.providers.http import Answer, HttpServer
from pixano_cli.inference.providers.remote import LOOK_TIMEOUT_S, Wire, read
from pixano_cli.inference.types import InferenceTask

ABSENT = frozenset({404, 405})
"""Answers of a server that knows no such path."""

DIALECTS = ("auto", "g1", "g2", "g3", "g4", "g5")
"""What a user may say of a server's generation; "auto" finds it out."""

_TASKS = {
    "segmentation": InferenceTask.MASK_GENERATION.value,
    "detection": InferenceTask.OBJECT_DETECTION.value,
    "tracking": InferenceTask.VIDEO_MASK_GENERATION.value,
    "vlm": InferenceTask.TEXT_GENERATION.value,
    "embedding": EmbeddingTask.IMAGE_EMBEDDING.value,
}


class Generation(IntEnum):
    """Generations of the server, which speak different dialects."""

    G1 = 1
    """Up to 0.5.6: submit and poll."""
    G2 = 2
    """A development state with the paths of G1 that answers at once."""
    G3 = 3
    """The next one, with `/inference/...`."""
    G4 = 4
    """0.6: `/v1`."""
    G5 = 5
    """0.7: `/v1`, another tracking output."""

    @property
    def embeds(self) -> bool:
        """Whether it has a way to ask for embeddings."""
        return self >= Generation.G4

    @property
    def is_celery(self) -> bool:
        """Whether a POST may be answered with the id of a task, to be asked for later."""
        return self <= Generation.G2

    @property
    def takes_keyframes(self) -> bool:
        """Whether each object of a video has a prompt of its own kind, which may be a mask."""
        return self >= Generation.G4

    def route(self, task: AnyTask) -> str:
        """Return the path that a task is posted to; embeddings are from G4 on."""
        if self <= Generation.G2:
            return _OLD_ROUTES[task.value]
        name = next(name for name, does in _TASKS.items() if does == task.value)
        return f"/v1/inference/{name}" if self >= Generation.G4 else f"/inference/{name}/"


_OLD_ROUTES = {
    InferenceTask.MASK_GENERATION.value: "/tasks/image/mask_generation/",
    InferenceTask.OBJECT_DETECTION.value: "/tasks/image/zero_shot_detection/",
    InferenceTask.VIDEO_MASK_GENERATION.value: "/tasks/video/mask_generation/",
    InferenceTask.TEXT_GENERATION.value: "/tasks/multimodal/text-image/conditional_generation/",
}


class CamelWire(Wire):
    """Part of an answer whose names are written in camelCase, or in snake_case."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, alias_generator=to_camel, populate_by_name=True
    )


class Info(CamelWire):
    """What a server tells of itself.

    `gpus_used` is a list of indexes up to G3, and a number of GPUs from G4 on.
    """

    app_name: str = "Pixano Inference"
    app_version: str = ""
    app_description: str = ""
    num_cpus: int | None = None
    num_gpus: int = 0
    num_nodes: int = 1
    gpus_used: list[int] | float = 0.0
    gpu_to_model: dict[str, str] = Field(default_factory=dict)
    models: list[str] = Field(default_factory=list)
    models_to_task: dict[str, str] | None = None
    models_to_capability: dict[str, str] | None = None


class Interface(CamelWire):
    """How a model wants to be called; only what is of use here."""

    modalities: list[str] = Field(default_factory=list)
    dim: Annotated[int, Field(ge=1)] | None = None
    classes: str = ""
    class_names: list[str] | None = None
    # A VLM has forms of a prompt under another name, so an absent list says nothing.
    prompts: list[str] | None = None


class ListedModel(CamelWire):
    """A model as a server lists it: `task` up to G2, `capability` from G3 on."""

    name: str
    task: str | None = None
    capability: str | None = None
    model_path: str | None = None
    model_class: str | None = None
    interface: Interface | None = None

    @property
    def does(self) -> str:
        """What it does: a task's value, or the server's own word for what is no task here."""
        if self.capability is None:
            return self.task or "nothing that it tells of"
        modalities = self.interface.modalities if self.interface else []
        if self.capability == "embedding" and modalities and "image" not in modalities:
            return "text_embedding"
        return _TASKS.get(self.capability, self.capability)

    @property
    def is_closed(self) -> bool:
        """Whether it says that it has a class set of its own."""
        return self.interface is not None and self.interface.classes == "closed"

    @property
    def is_open(self) -> bool:
        """Whether it says that it looks for the classes that are named, and needs some."""
        return self.interface is not None and self.interface.classes == "open"

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Its own class set, if it tells."""
        if not self.is_closed or self.interface is None or self.interface.class_names is None:
            return None
        return tuple(dict.fromkeys(self.interface.class_names))

    @property
    def takes_masks(self) -> bool:
        """Whether a mask may prompt it; so it may if it does not say what may."""
        prompts = self.interface.prompts if self.interface else None
        return prompts is None or "mask" in prompts

    @property
    def embedding_size(self) -> int | None:
        """Numbers in its vectors, if it embeds and tells."""
        return self.interface.dim if self.interface else None


@dataclass(frozen=True, slots=True)
class Dialect:
    """A server's generation and its version, empty if it does not tell."""

    generation: Generation
    version: str


_INFO = TypeAdapter(Info)
_MODELS = TypeAdapter(list[ListedModel])


async def find_dialect(server: HttpServer) -> Dialect:
    """Find out which generation a server is.

    Raises:
        InferenceError: If it is none, cannot be reached or does not answer.
    """
    answer = await server.get("/v1/info", timeout=LOOK_TIMEOUT_S, heed=ABSENT)
    if answer.is_success and _has(answer, "appVersion"):
        version = read(_INFO, answer).app_version
        return Dialect(_by_version(version), version)
    answer = await server.get("/app/settings/", timeout=LOOK_TIMEOUT_S, heed=ABSENT)
    if not answer.is_success or not _has(answer, "app_version"):
        raise InferenceError(
            f"{server.url} is no Pixano Inference server: it has neither /v1/info nor "
            "/app/settings/, so check the URL"
        )
    info = read(_INFO, answer)
    if info.models_to_capability is not None:
        return Dialect(Generation.G3, info.app_version)
    if info.models_to_task is not None:
        ready = await server.get("/ready", timeout=LOOK_TIMEOUT_S, heed=ABSENT)
        if ready.is_success:
            return Dialect(Generation.G2, info.app_version)
    return Dialect(Generation.G1, info.app_version)


async def get_info(server: HttpServer, dialect: Dialect) -> Info:
    """Return what a server tells of itself."""
    path = "/v1/info" if dialect.generation >= Generation.G4 else "/app/settings/"
    return read(_INFO, await server.get(path, timeout=LOOK_TIMEOUT_S))


async def get_models(server: HttpServer, dialect: Dialect) -> list[ListedModel]:
    """Return the models of a server."""
    path = "/v1/models" if dialect.generation >= Generation.G4 else "/app/models/"
    return read(_MODELS, await server.get(path, timeout=LOOK_TIMEOUT_S))


async def is_loading(server: HttpServer, dialect: Dialect) -> bool:
    """Return whether a server says that it has not all of its models yet; G1 never does."""
    if dialect.generation is Generation.G1:
        return False
    path = "/v1/ready" if dialect.generation >= Generation.G4 else "/ready"
    answer = await server.get(path, timeout=LOOK_TIMEOUT_S, heed=ABSENT | {503})
    return answer.status == 503


def _has(answer: Answer, name: str) -> bool:
    return isinstance(answer.value, dict) and name in answer.value


def _by_version(version: str) -> Generation:
    """Tell 0.6 from what came later; a version that says nothing is taken for the latest."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < (0, 7):
        return Generation.G4
    return Generation.G5
