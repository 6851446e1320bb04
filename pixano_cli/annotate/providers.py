"""What providers there are, and whether one answers as it should."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from pixano_cli.annotate.job import provider_of
from pixano_cli.annotate.settings import Settings
from pixano_cli.inference.check import CheckReport, check_provider
from pixano_cli.inference.embedding import EmbeddingTask
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.registry import list_providers, provider_class
from pixano_cli.inference.types import InferenceTask, ModelInfo, ServerInfo

_GIVES = {
    InferenceTask.OBJECT_DETECTION.value: "boxes",
    InferenceTask.MASK_GENERATION.value: "masks",
    InferenceTask.VIDEO_MASK_GENERATION.value: "tracks",
    InferenceTask.TEXT_GENERATION.value: "text",
    EmbeddingTask.IMAGE_EMBEDDING.value: "vectors",
}


@dataclass(frozen=True, slots=True)
class KnownProvider:
    """A provider, as far as it can be told without asking anybody.

    Attributes:
        name: Its name.
        tasks: Values of the tasks that it may do; which of them depends on its models.
        url: Address that is asked unless told otherwise; None if nobody is asked.
        variable: Environment variable of the key; None if there is no key.
    """

    name: str
    tasks: tuple[str, ...]
    url: str | None
    variable: str | None


@dataclass(frozen=True, slots=True)
class ProviderReport:
    """What a provider has answered.

    Attributes:
        server: What it tells of itself.
        models: Its models.
        boxes: How the model that was asked about gives boxes; None if none was.
    """

    server: ServerInfo
    models: tuple[ModelInfo, ...]
    boxes: CheckReport | None


def gives(task: str) -> str:
    """Return what models give that do a task, in a word; the task's own name if there is none."""
    return _GIVES.get(task, task)


def known_providers() -> list[KnownProvider]:
    """Return all providers in order of name."""
    return [_known(name) for name in list_providers()]


def check(settings: Settings, model: str | None) -> ProviderReport:
    """Ask a provider about itself and, where a model is named, for the boxes of known shapes.

    Raises:
        PixanoAnnotateError: If it does not answer, or has no such model.
    """

    async def ask(provider: InferenceProvider) -> ProviderReport:
        try:
            server = await provider.get_server_info()
            models = await provider.list_models()
            boxes = None if model is None else await check_provider(provider, model)
        finally:
            await provider.aclose()
        return ProviderReport(server, tuple(models), boxes)

    return asyncio.run(ask(provider_of(settings)))


def _known(name: str) -> KnownProvider:
    known = provider_class(name)
    tasks = [task.value for task in getattr(known, "tasks", InferenceTask)]
    if known.image_embedding is not InferenceProvider.image_embedding:
        tasks.append(EmbeddingTask.IMAGE_EMBEDDING.value)
    return KnownProvider(
        name, tuple(tasks), getattr(known, "default_url", None), getattr(known, "variable", None)
    )
