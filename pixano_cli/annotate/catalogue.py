"""What local models there are, for people who choose one."""

from __future__ import annotations

from pixano_cli.annotate.event_loop import run_to_end
from pixano_cli.inference.provider import InferenceProvider, ModelDescription
from pixano_cli.inference.registry import get_provider
from pixano_cli.models.plugins import PluginFailure, discover_models


def catalogue() -> tuple[list[ModelDescription], tuple[PluginFailure, ...]]:
    """Return every local model in order of name, and the plugins that could not be loaded."""
    failures = discover_models()

    async def describe(provider: InferenceProvider) -> list[ModelDescription]:
        try:
            models = await provider.list_models()
            return [await provider.describe_model(model.name) for model in models]
        finally:
            await provider.aclose()

    return run_to_end(describe(get_provider("local"))), failures


def find_model(name: str) -> ModelDescription:
    """Return what is known of a local model.

    Raises:
        ModelNotFoundError: If there is none of this name.
    """

    async def describe(provider: InferenceProvider) -> ModelDescription:
        try:
            return await provider.describe_model(name)
        finally:
            await provider.aclose()

    return run_to_end(describe(get_provider("local")))
