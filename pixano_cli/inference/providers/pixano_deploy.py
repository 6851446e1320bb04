"""Loading models on a Pixano Inference server, and unloading them."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

from pydantic import TypeAdapter

from pixano_cli.inference.errors import (
    InferenceError,
    InferenceTimeoutError,
    InvalidRequestError,
    ModelNotFoundError,
    TaskNotSupportedError,
)
from pixano_cli.inference.providers.dialects import Dialect, Generation, ListedModel
from pixano_cli.inference.providers.http import Answer, HttpServer
from pixano_cli.inference.providers.pixano_jobs import ENVELOPE
from pixano_cli.inference.providers.remote import LOOK_TIMEOUT_S, read
from pixano_cli.inference.types import ModelConfig

_REFUSALS = frozenset({400, 404, 409, 422, 500})
_POLL_S = 0.5
_LISTED = TypeAdapter(ListedModel)


async def instantiate(
    server: HttpServer, dialect: Dialect, provider: str, config: ModelConfig, timeout: float
) -> None:
    """Load a model; see `PixanoInferenceProvider.instantiate_model`."""
    _check_deploys(server, dialect)
    if dialect.generation is Generation.G1:
        await _instantiate_task(server, provider, config, timeout)
        return
    answer = await server.post(
        "/v1/models", deployment(provider, config), timeout=timeout, heed=_REFUSALS
    )
    if not answer.is_success:
        raise _refused(answer, f"model {config.name!r} ({provider})")
    model = read(_LISTED, answer)
    if config.task and config.task not in (model.does, model.capability):
        await delete(server, dialect, model.name)
        raise TaskNotSupportedError(
            f"model {config.name!r} at {server.url} does {model.does}, not {config.task}: "
            "it was unloaded again"
        )


async def delete(server: HttpServer, dialect: Dialect, model: str) -> None:
    """Unload a model; see `PixanoInferenceProvider.delete_model`."""
    _check_deploys(server, dialect)
    base = "/providers/model/" if dialect.generation is Generation.G1 else "/v1/models/"
    answer = await server.delete(
        base + quote(model, safe=""), timeout=LOOK_TIMEOUT_S * 2, heed={404}
    )
    if not answer.is_success:
        raise ModelNotFoundError(f"{server.url} has no model {model!r} to delete")


def deployment(provider: str, config: ModelConfig) -> dict[str, Any]:
    """Return the body that deploys a model, from 0.6 on.

    Args:
        provider: Class of the model, unless `config.config` names another.
        config: What to load. Of its `config`, `model_class` and `deployment` (a dictionary of what
            the server's deployment takes, as `num_cpus`) are used as such, and all others are
            parameters of the model, as its path is.
    """
    params = {
        name: value
        for name, value in config.config.items()
        if name not in ("model_class", "deployment")
    }
    if config.path:
        params["path"] = str(config.path)
    if config.processor_config:
        params["processor_config"] = config.processor_config
    return {
        "name": config.name,
        "modelClass": config.config.get("model_class", provider),
        "modelParams": params,
        "deployment": config.config.get("deployment", {}),
    }


async def _instantiate_task(
    server: HttpServer, provider: str, config: ModelConfig, timeout: float
) -> None:
    route = "/providers/instantiate"
    try:
        async with asyncio.timeout(timeout):
            answer = await server.post(
                route,
                {"provider": provider, "config": config.to_dict()},
                timeout=timeout,
                heed=_REFUSALS,
            )
            if not answer.is_success:
                raise _refused(answer, f"provider {provider!r} or task {config.task!r}")
            task = read(ENVELOPE, answer)
            while task.status != "SUCCESS":
                if task.status in ("FAILURE", "REVOKED"):
                    raise InferenceError(
                        f"{server.url} could not load model {config.name!r} ({task.status}): "
                        "its own log may say why"
                    )
                await asyncio.sleep(_POLL_S)
                path = f"{route}/{quote(task.id, safe='')}"
                task = read(ENVELOPE, await server.get(path, timeout=LOOK_TIMEOUT_S))
    except TimeoutError as error:
        raise InferenceTimeoutError(
            f"{server.url} did not load model {config.name!r} in {timeout:g} s: "
            "allow more time; it may yet come"
        ) from error


def _check_deploys(server: HttpServer, dialect: Dialect) -> None:
    if dialect.generation in (Generation.G2, Generation.G3):
        raise TaskNotSupportedError(
            f"Model deployment is managed by the server administrator: {server.url} is Pixano "
            f"Inference {dialect.version or dialect.generation.name}, which loads no model on "
            "request"
        )


def _refused(answer: Answer, what: str) -> InferenceError:
    told = f"({answer.status}: {answer.said})"
    # 0.6 and 0.7 say 422 of a class that they do not know, among other faults of a configuration.
    if answer.status == 404 or "unknown model" in answer.said.lower():
        return ModelNotFoundError(f"{answer.where} knows no {what} {told}")
    if answer.status == 500:
        return InferenceError(
            f"{answer.where} could not load {what} {told}: its own log may say why, "
            "and whether there is a model of that name already"
        )
    return InvalidRequestError(f"{answer.where} refuses to load {what} {told}")
