"""Finding models written for Pixano Inference and making them models of this tool."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from importlib.util import find_spec
from typing import Any

from pixano_cli.annotations import Category
from pixano_cli.errors import ModelError
from pixano_cli.models.base import (
    InferenceModel,
    ModelCard,
    ModelDeploymentConfig,
    register_model,
    registered_uses,
)
from pixano_cli.models.pixano_inference_adapters import (
    DetectionAdapter,
    EmbeddingAdapter,
    PluginAdapter,
    SegmentationAdapter,
    TrackingAdapter,
    VLMAdapter,
    plugin_config,
)


def register_plugin(entry_point: EntryPoint, origin: str) -> None:
    """Load a plugin of the group `pixano_inference.models` and register a model for each of its.

    Args:
        entry_point: What names the plugin's module or class.
        origin: Name and version of the package that offers it.

    Raises:
        ModelError: If the package `pixano_inference` is not installed, or if the plugin has no
            model of a capability that this tool uses.
        ValueError: If another model has the name of one of its.
        Exception: Whatever the plugin raises when it is imported.
    """
    if find_spec("pixano_inference") is None:
        raise ModelError(
            "it is written for Pixano Inference, which is not installed: "
            "pip install 'pixano-inference>=0.7'"
        )
    from pixano_inference.models import InferenceModel as PluginModel
    from pixano_inference.models import ModelClassRegistry

    before = ModelClassRegistry.list_all()
    loaded = entry_point.load()
    if (
        isinstance(loaded, type)
        and issubclass(loaded, PluginModel)
        and loaded not in ModelClassRegistry.list_all().values()
    ):
        ModelClassRegistry.ensure_registered(loaded)
    package = entry_point.module.partition(".")[0]
    offered = {
        name: plugin_class
        for name, plugin_class in ModelClassRegistry.list_all().items()
        if name not in before or plugin_class.__module__.partition(".")[0] == package
    }
    adapters = {name: adapter_for(name, offered[name], origin) for name in sorted(offered)}
    if not any(adapters.values()):
        names = ", ".join(adapters) or "none"
        raise ModelError(
            f"{entry_point.value} has no model for images (models registered there: {names})"
        )
    for name, adapter in adapters.items():
        if adapter is not None and not _is_registered(name, adapter.plugin_class):
            register_model(name)(adapter)


def adapter_for(
    name: str, plugin_class: type[Any], origin: str
) -> type[PluginAdapter[Any, Any]] | None:
    """Make a model class of ours for one written for Pixano Inference.

    Args:
        name: Name it is registered under.
        plugin_class: The class, on one of that package's base classes.
        origin: Name and version of the package it comes from.

    Returns:
        The class; None if its capability is none that this tool uses.
    """
    from pixano_inference import models as theirs

    bases: dict[type[Any], type[PluginAdapter[Any, Any]]] = {
        theirs.DetectionModel: DetectionAdapter,
        theirs.SegmentationModel: SegmentationAdapter,
        theirs.TrackingModel: TrackingAdapter,
        theirs.VLMModel: VLMAdapter,
        theirs.EmbeddingModel: EmbeddingAdapter,
    }
    for their_base, our_base in bases.items():
        if issubclass(plugin_class, their_base):
            members: dict[str, Any] = {
                "__module__": plugin_class.__module__,
                "__qualname__": plugin_class.__qualname__,
                "__doc__": plugin_class.__doc__,
                "plugin_class": plugin_class,
                "origin": origin,
                "card": _card(name, plugin_class, origin),
            }
            if plugin_class.predict_batch is theirs.InferenceModel.predict_batch:
                # Of a plugin with no batch pass of its own, the adapter shows none either.
                members["predict_batch"] = InferenceModel.predict_batch
            return type(plugin_class.__name__, (our_base,), members)
    return None


def _is_registered(name: str, plugin_class: type[Any]) -> bool:
    return any(
        known_name == name and getattr(known, "plugin_class", None) is plugin_class
        for known_name, known in registered_uses()
    )


def _card(name: str, plugin_class: type[Any], origin: str) -> ModelCard | None:
    """Read the class set of a closed vocabulary off the plugin's interface, unloaded."""
    config = ModelDeploymentConfig(
        name=name, capability=plugin_class.capability_name, model_class=name
    )
    try:
        interface = plugin_class(plugin_config(config)).interface
    except Exception:  # it needs its weights or parameters for that
        return None
    class_names = getattr(interface, "class_names", None)
    if not class_names:
        return None
    return ModelCard(
        description=(plugin_class.__doc__ or "").strip().partition("\n")[0],
        license="",
        origin=origin,
        categories=tuple(Category(index, each) for index, each in enumerate(class_names, start=1)),
    )
