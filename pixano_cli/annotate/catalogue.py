"""What local models there are, for people who choose one."""

from __future__ import annotations

from pixano_cli.annotate.event_loop import run_to_end
from pixano_cli.inference.embedding import task_of
from pixano_cli.inference.provider import InferenceProvider, ModelDescription
from pixano_cli.inference.registry import get_provider
from pixano_cli.models.plugins import PluginFailure, discover_models


def catalogue() -> tuple[list[ModelDescription], tuple[PluginFailure, ...]]:
    """Return every local model in order of name, and the plugins that could not be loaded.

    A name with several uses is there once for each.
    """
    failures = discover_models()

    async def describe(provider: InferenceProvider) -> list[ModelDescription]:
        try:
            models = await provider.list_models()
            return [await provider.describe_model(each.name, task_of(each.task)) for each in models]
        finally:
            await provider.aclose()

    return run_to_end(describe(get_provider("local"))), failures


def find_model(name: str) -> list[ModelDescription]:
    """Return what is known of a local model: one description for each of its uses.

    Raises:
        ModelNotFoundError: If there is none of this name.
        TaskNotSupportedError: If no task asks for what it does.
    """

    async def describe(provider: InferenceProvider) -> list[ModelDescription]:
        try:
            models = await provider.list_models()
            tasks = [task_of(each.task) for each in models if each.name == name]
            if not tasks:
                return [await provider.describe_model(name)]  # which says what is wrong
            return [await provider.describe_model(name, task) for task in tasks]
        finally:
            await provider.aclose()

    return run_to_end(describe(get_provider("local")))
