"""What the local provider tells of this process and of the models in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pixano_cli
from pixano_cli.inference.providers.loading import LocalModel
from pixano_cli.inference.types import ModelInfo, ServerInfo


def server_info(models: Sequence[LocalModel], device: str) -> ServerInfo:
    """Tell about this process.

    Args:
        models: The models that there are; those that are loaded are told.
        device: Where they run.
    """
    loaded = [model for model in models if model.is_loaded]
    names = list(dict.fromkeys(model.name for model in loaded))
    gpu = int(device.partition(":")[2] or 0)
    on_gpu = bool(loaded) and device.startswith("cuda")
    return ServerInfo(
        app_name="pixano-annotate",
        app_version=pixano_cli.__version__,
        app_description="Models in the process of pixano-annotate itself",
        num_cpus=os.cpu_count(),
        num_gpus=_number_of_gpus(),
        num_nodes=1,
        gpus_used=[gpu] if on_gpu else [],
        gpu_to_model={str(gpu): ", ".join(names)} if on_gpu else {},
        models=names,
        # Of a name with several uses, the first that is loaded.
        models_to_task={model.name: model.task.value for model in reversed(loaded) if model.task},
    )


def model_info(model: LocalModel, provider: str) -> ModelInfo:
    """Tell of one model, or of one use of it."""
    parameters = model.config.model_params
    path = parameters.get("path") or parameters.get("checkpoint")
    return ModelInfo(
        name=model.name,
        task=model.task.value if model.task else "",
        model_path=str(path) if path else None,
        model_class=model.model_class.__name__,
        provider=provider,
    )


def _number_of_gpus() -> int:
    """Count NVIDIA's GPUs as its Linux driver lists them; elsewhere none is known of."""
    try:
        return len(list(Path("/proc/driver/nvidia/gpus").iterdir()))
    except OSError:
        return 0
