"""What providers there are, which one a job asks, and whether one answers as it should."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import Parameter, signature

from pixano_cli.annotate.event_loop import run_to_end
from pixano_cli.annotate.settings import DEFAULT_DEVICE, LOCAL, Settings
from pixano_cli.errors import UsageError
from pixano_cli.inference.check import CheckReport, Grounds, check_provider
from pixano_cli.inference.embedding import EmbeddingTask
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.registry import get_provider, list_providers, provider_class
from pixano_cli.inference.types import InferenceTask, ModelInfo, ServerInfo
from pixano_cli.inference_store import runs
from pixano_cli.inference_store.database import open_store, store_exists

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

    return run_to_end(ask(provider_of(settings)))


def _known(name: str) -> KnownProvider:
    known = provider_class(name)
    tasks = [task.value for task in getattr(known, "tasks", InferenceTask)]
    if known.image_embedding is not InferenceProvider.image_embedding:
        tasks.append(EmbeddingTask.IMAGE_EMBEDDING.value)
    return KnownProvider(
        name, tuple(tasks), getattr(known, "default_url", None), getattr(known, "variable", None)
    )


def provider_of(settings: Settings) -> InferenceProvider:
    """Return who is to be asked.

    Raises:
        UsageError: If there is no such provider, or it does not take an option that is given.
    """
    # What is left at its default is left to the provider, which may not know the option.
    options = {
        "device": None if settings.device == DEFAULT_DEVICE else settings.device,
        "url": settings.url,
        "api_key_file": settings.api_key_file,
        "concurrency": settings.concurrency,
        "rpm": settings.rpm,
        "tpm": settings.tpm,
        "max_side": settings.max_side,
        "boxes": settings.box_format,
        "dialect": settings.dialect,
        "batch_size": settings.batch_size,
        "model_params": settings.model_params or None,
    }
    given = {name: value for name, value in options.items() if value is not None}
    taken = signature(provider_class(settings.provider)).parameters
    if all(each.kind is not Parameter.VAR_KEYWORD for each in taken.values()):
        unknown = [_flag(name) for name in given if name not in taken]
        if unknown:
            hint = ": they are for servers, see --provider" if settings.provider == LOCAL else ""
            raise UsageError(
                f"provider {settings.provider!r} cannot take these options: "
                f"{', '.join(unknown)}{hint}"
            )
    return get_provider(settings.provider, **given)


def _flag(option: str) -> str:
    flags = {"boxes": "--box-format", "model_params": "--checkpoint or --compile"}
    return flags.get(option, f"--{option.replace('_', '-')}")


def remind(provider: InferenceProvider, settings: Settings) -> None:
    """Tell a provider in which conventions its models gave boxes: finding out again may cost."""
    if not isinstance(provider, Grounds) or not store_exists(settings.store):
        return
    with open_store(settings.store) as store:
        for request in runs.requests(store):
            if request["provider"] == provider.name and "boxes" in request["parameters"]:
                provider.remember(request["model"], request["parameters"]["boxes"])
