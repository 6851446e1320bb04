"""Providers by name: those that come with the tool, and those that other code registers."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from inspect import signature
from typing import Any, TypeVar

from pixano_cli.errors import UsageError
from pixano_cli.inference.errors import ProviderNotFoundError, choices
from pixano_cli.inference.provider import InferenceProvider

ProviderClassT = TypeVar("ProviderClassT", bound=type[InferenceProvider])

_PROVIDERS = "pixano_cli.inference.providers"
_BUILT_IN = {
    "gemini": f"{_PROVIDERS}.gemini:GeminiProvider",
    "litellm": f"{_PROVIDERS}.presets:LiteLLMProvider",
    "lmstudio": f"{_PROVIDERS}.presets:LMStudioProvider",
    "local": f"{_PROVIDERS}.local:LocalProvider",
    "max": f"{_PROVIDERS}.presets:MAXProvider",
    "ollama": f"{_PROVIDERS}.presets:OllamaProvider",
    "openai": f"{_PROVIDERS}.openai:OpenAIProvider",
    "pixano-inference": f"{_PROVIDERS}.pixano_inference:PixanoInferenceProvider",
    "vllm": f"{_PROVIDERS}.presets:VLLMProvider",
}
_REGISTRY: dict[str, type[InferenceProvider]] = {}


def register_provider(name: str) -> Callable[[ProviderClassT], ProviderClassT]:
    """Register a provider class under `name`.

    Raises:
        ValueError: If another class, or a provider that comes with the tool, has the name already.
    """

    def register(registered: ProviderClassT) -> ProviderClassT:
        known = _REGISTRY.get(name)
        owner = f"{known.__module__}:{known.__qualname__}" if known else _BUILT_IN.get(name)
        if owner not in (None, f"{registered.__module__}:{registered.__qualname__}"):
            raise ValueError(f"provider {name!r} is already registered by {owner}")
        _REGISTRY[name] = registered
        return registered

    return register


def get_provider(name: str, **kwargs: Any) -> InferenceProvider:
    """Make a provider.

    Args:
        name: Name it is registered under.
        **kwargs: Given to its class as they are.

    Raises:
        ProviderNotFoundError: If there is no provider of the name.
        UsageError: If it does not take an option that is given.
    """
    made = provider_class(name)
    try:
        signature(made).bind(**kwargs)
    except TypeError as error:
        raise UsageError(f"provider {name!r} cannot take these options: {error}") from error
    return made(**kwargs)


def provider_class(name: str) -> type[InferenceProvider]:
    """Return the class of a provider.

    Raises:
        ProviderNotFoundError: If there is no provider of the name.
    """
    if name in _REGISTRY:
        return _REGISTRY[name]
    if name not in _BUILT_IN:
        raise ProviderNotFoundError(
            f"there is no provider {name!r}: {choices(name, list_providers())}"
        )
    module, _, attribute = _BUILT_IN[name].partition(":")
    found: type[InferenceProvider] = getattr(import_module(module), attribute)
    return found


def list_providers() -> list[str]:
    """Return the names of all providers, in order."""
    return sorted({*_BUILT_IN, *_REGISTRY})


def is_provider_registered(name: str) -> bool:
    """Return whether there is a provider of the name."""
    return name in _BUILT_IN or name in _REGISTRY
