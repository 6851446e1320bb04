"""One's own weights in place of those that a local model has."""

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
) -> Settings:
    """Return settings by which a model has these weights.

    Args:
        settings: How a job is to be run.
        model: Name of the model.
        checkpoint: Its file of weights; None for those that it has.
        config: The network that the weights are of: a YAML file, or a name that the model knows;
            None for the model's own.

    Raises:
        UsageError: If there is no checkpoint, or it is not said of which model it is.
    """
    if checkpoint is None and config is None:
        return settings
    if checkpoint is None:
        raise UsageError("--model-config: it says of which network a --checkpoint is: give both")
    if model is None:
        raise UsageError(
            "--checkpoint: name the model that it is of with --model, for example sam2.1-tiny"
        )
    if not Path(checkpoint).is_file():
        raise UsageError(f"--checkpoint: there is no file {checkpoint}")
    given = {"path": str(checkpoint)} | ({} if config is None else {"config": str(config)})
    known = settings.model_params
    return replace(settings, model_params={**known, model: {**known.get(model, {}), **given}})
