"""Providers by name."""

import subprocess
import sys
from typing import Any, cast

import pytest

from pixano_cli.inference import registry
from pixano_cli.inference.errors import ProviderNotFoundError
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.providers.openai import OpenAIProvider
from pixano_cli.inference.registry import (
    get_provider,
    is_provider_registered,
    list_providers,
    register_provider,
)

BUILT_IN = [
    *("gemini", "litellm", "lmstudio", "local", "max", "ollama", "openai"),
    *("pixano-inference", "vllm"),
]
PRESETS = {
    "litellm": ("LITELLM_PROXY_API_KEY", "http://127.0.0.1:4000/v1"),
    "lmstudio": ("LM_API_TOKEN", "http://127.0.0.1:1234/v1"),
    "max": ("MAX_API_KEY", "http://127.0.0.1:8000/v1"),
    "ollama": ("OLLAMA_API_KEY", "http://127.0.0.1:11434/v1"),
    "vllm": ("VLLM_API_KEY", "http://127.0.0.1:8000/v1"),
}


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", {})


class Remembering:
    """Keeps what it is made with; only its making is looked at here."""

    def __init__(self, **kwargs: Any) -> None:
        self.kwargs = kwargs


Remote = cast(type[InferenceProvider], Remembering)


def test_registered_provider_is_made_with_the_arguments_given() -> None:
    assert register_provider("remote")(Remote) is Remote
    made = cast(Remembering, get_provider("remote", url="http://localhost:7463", retries=2))
    assert made.kwargs == {"url": "http://localhost:7463", "retries": 2}
    assert is_provider_registered("remote")
    assert list_providers() == sorted([*BUILT_IN, "remote"])


def test_those_that_come_with_the_tool_are_there_without_being_imported() -> None:
    code = (
        "import sys; from pixano_cli.inference import list_providers, is_provider_registered; "
        "print(list_providers(), all(map(is_provider_registered, list_providers())), "
        "[name for name in sys.modules if 'providers.' in name or name in ('aiohttp', 'httpx')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{BUILT_IN} True []"


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_provider_is_imported_when_got(name: str) -> None:
    provider = get_provider(name)
    assert provider.name == name
    module = "presets" if name in PRESETS else name.replace("-", "_")
    assert type(provider).__module__ == f"pixano_cli.inference.providers.{module}"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_differ_in_name_address_and_key(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable, url = PRESETS[name]
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai")
    provider = get_provider(name)
    assert isinstance(provider, OpenAIProvider)
    assert (provider.variable, provider._server.url) == (variable, url)
    # The key of one server is not for another.
    assert provider._server._key is None
    monkeypatch.setenv(variable, "sk-of-its-own")
    mine = get_provider(name)
    assert isinstance(mine, OpenAIProvider)
    assert mine._server._key is not None
    assert mine._server._key.source == f"the environment variable {variable}"
    own = set(vars(type(provider))) - set(vars(type("Bare", (), {}))) - {"__annotations__"}
    assert {each for each in own if not each.startswith("_")} <= {
        "title",
        "variable",
        "default_url",
    }


def test_unknown_provider_is_told_with_the_one_meant() -> None:
    with pytest.raises(ProviderNotFoundError) as raised:
        get_provider("lokal")
    assert str(raised.value) == (
        f"there is no provider 'lokal': did you mean 'local'? (known: {', '.join(BUILT_IN)})"
    )
    with pytest.raises(ProviderNotFoundError, match=rf"'xyz': known: {', '.join(BUILT_IN)}$"):
        get_provider("xyz")
    assert not is_provider_registered("xyz")


def test_a_name_has_one_owner() -> None:
    register_provider("remote")(Remote)
    register_provider("remote")(Remote)
    other = cast(type[InferenceProvider], type("Other", (Remembering,), {}))
    with pytest.raises(ValueError, match=r"'remote' is already registered by .*Remembering"):
        register_provider("remote")(other)
    with pytest.raises(ValueError, match=r"'local' is already registered by .*LocalProvider"):
        register_provider("local")(other)
