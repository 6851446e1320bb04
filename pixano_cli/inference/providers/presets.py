"""Servers with OpenAI's API that have an address and a key of their own; all else is `openai`.

A key goes only to the server that its variable is named for: none of these reads OPENAI_API_KEY,
which would send it to whatever listens on a port of this machine.
"""

from __future__ import annotations

from typing import ClassVar

from pixano_cli.inference.providers.openai import OpenAIProvider


class VLLMProvider(OpenAIProvider):
    """vLLM, `vllm serve`, which itself reads the key to ask for in VLLM_API_KEY."""

    title: ClassVar[str] = "vllm"
    variable: ClassVar[str] = "VLLM_API_KEY"
    default_url: ClassVar[str] = "http://127.0.0.1:8000"


class MAXProvider(OpenAIProvider):
    """Modular's MAX, `max serve`, which asks for no key; a proxy before it may."""

    title: ClassVar[str] = "max"
    variable: ClassVar[str] = "MAX_API_KEY"
    default_url: ClassVar[str] = "http://127.0.0.1:8000"


class OllamaProvider(OpenAIProvider):
    """Ollama; only ollama.com, and a proxy, ask for a key."""

    title: ClassVar[str] = "ollama"
    variable: ClassVar[str] = "OLLAMA_API_KEY"
    default_url: ClassVar[str] = "http://127.0.0.1:11434"


class LMStudioProvider(OpenAIProvider):
    """LM Studio, whose own libraries read LM_API_TOKEN."""

    title: ClassVar[str] = "lmstudio"
    variable: ClassVar[str] = "LM_API_TOKEN"
    default_url: ClassVar[str] = "http://127.0.0.1:1234"


class LiteLLMProvider(OpenAIProvider):
    """The proxy of LiteLLM, whose own library reads LITELLM_PROXY_API_KEY to ask one."""

    title: ClassVar[str] = "litellm"
    variable: ClassVar[str] = "LITELLM_PROXY_API_KEY"
    default_url: ClassVar[str] = "http://127.0.0.1:4000"
