"""Providers by name."""

import subprocess
import sys
from typing import Any, cast

import pytest

from pixano_cli.inference import registry
from pixano_cli.inference.errors import ProviderNotFoundError
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.registry import (
    get_provider,
    is_provider_registered,
    list_providers,
    register_provider,
)

BUILT_IN = ["local", "openai", "pixano-inference"]


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
    assert list_providers() == [*BUILT_IN, "remote"]


def test_those_that_come_with_the_tool_are_there_without_being_imported() -> None:
    code = (
        "import sys; from pixano_cli.inference import list_providers, is_provider_registered; "
        "print(list_providers(), all(map(is_provider_registered, list_providers())), "
        "[name for name in sys.modules if 'providers.' in name or name == 'httpx'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{BUILT_IN} True []"


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_provider_is_imported_when_got(name: str) -> None:
    provider = get_provider(name)
    assert provider.name == name
    module = f"pixano_cli.inference.providers.{name.replace('-', '_')}"
    assert type(provider).__module__ == module


def test_unknown_provider_is_told_with_the_one_meant() -> None:
    with pytest.raises(ProviderNotFoundError) as raised:
        get_provider("lokal")
    assert str(raised.value) == (
        "there is no provider 'lokal': did you mean 'local'? "
        "(known: local, openai, pixano-inference)"
    )
    with pytest.raises(
        ProviderNotFoundError, match=r"'xyz': known: local, openai, pixano-inference$"
    ):
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
