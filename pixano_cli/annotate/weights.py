"""How a local model is loaded: with one's own weights in place of its own, and compiled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pixano_cli.annotate.settings import Settings
from pixano_cli.errors import UsageError


def with_weights(
    settings: Settings,
    model: str | None,
    checkpoint: str | Path | None,
    config: str | Path | None,
    *,
    compiled: bool,
) -> Settings:
    """Return settings by which a model has these weights, and is compiled.

    Args:
        settings: How a job is to be run.
        model: Name of the model.
        checkpoint: Its file of weights; None for those that it has.
        config: The network that the weights are of: a YAML file, or a name that the model knows;
            None for the model's own.
        compiled: Whether its image encoder is compiled.

    Raises:
        UsageError: If there is no checkpoint, or it is not said of which model it is.
    """
    given: dict[str, object] = {"compile": True} if compiled else {}
    if checkpoint is not None:
        given["path"] = str(checkpoint)
    if config is not None:
        given["config"] = str(config)
    if not given:
        return settings
    if config is not None and checkpoint is None:
        raise UsageError("--model-config: it says of which network a --checkpoint is: give both")
    if model is None:
        option = "--compile" if checkpoint is None else "--checkpoint"
        raise UsageError(
            f"{option}: name the model that it is of with --model, for example sam2.1-tiny"
        )
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise UsageError(f"--checkpoint: there is no file {checkpoint}")
    known = settings.model_params
    return replace(settings, model_params={**known, model: {**known.get(model, {}), **given}})
