"""Finding local models: the entry points of the installed packages.

A package offers a model by an entry point of the group `pixano_cli.models`, for a model on the
classes of `pixano_cli.models`, or `pixano_inference.models`, for one written for Pixano Inference.
It names a module, which registers its models with `@register_model` when imported, or a class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions
from threading import RLock
from types import ModuleType

from pixano_cli.errors import ModelError
from pixano_cli.models.base import (
    InferenceModel,
    register_model,
    registered_uses,
    registering_all_or_none,
)

GROUP = "pixano_cli.models"
PIXANO_INFERENCE_GROUP = "pixano_inference.models"

_OWN_DISTRIBUTION = "pixano-annotate"

_lock = RLock()
_failures: tuple[PluginFailure, ...] | None = None


@dataclass(frozen=True, slots=True)
class PluginFailure:
    """A plugin whose models are not to be had.

    Attributes:
        name: Name of the entry point.
        group: Its group.
        distribution: The package that offers it, as it is named to pip.
        error: Why, in one line.
    """

    name: str
    group: str
    distribution: str
    error: str


def discover_models() -> tuple[PluginFailure, ...]:
    """Register the models of every installed plugin; `registered_models` has them afterwards.

    The first call loads the plugins, later ones return what it found. The models that come with
    the tool are loaded first, so that no plugin can take their names, then the plugins by group
    and name. Of a plugin that fails, none of its models is registered.

    Returns:
        The plugins that cannot be loaded.
    """
    global _failures
    with _lock:
        if _failures is None:
            _failures = ()  # for a plugin that asks while it is being loaded itself
            try:
                _failures = tuple(_load_all())
            except BaseException:
                _failures = None
                raise
        return _failures


def _load_all() -> Iterator[PluginFailure]:
    offered: dict[tuple[bool, str, str, str], tuple[EntryPoint, Distribution]] = {}
    for distribution in distributions():
        try:
            entry_points = distribution.entry_points
        except Exception as error:
            yield from _unreadable(distribution, error)
            continue
        for entry_point in entry_points:
            if entry_point.group in (GROUP, PIXANO_INFERENCE_GROUP):
                package = _name(distribution)
                key = (package != _OWN_DISTRIBUTION, entry_point.group, package, entry_point.name)
                # Of two installed copies of a package, the first on the path is imported.
                offered.setdefault(key, (entry_point, distribution))
    for (_, group, package, name), (entry_point, distribution) in sorted(
        offered.items(), key=lambda item: item[0]
    ):
        try:
            with registering_all_or_none():
                if group == GROUP:
                    _load(entry_point)
                else:
                    _load_for_pixano_inference(entry_point, distribution)
        except (Exception, SystemExit) as error:
            yield PluginFailure(name, group, package, _one_line(error))


def _load(entry_point: EntryPoint) -> None:
    loaded = entry_point.load()
    if isinstance(loaded, ModuleType):
        return
    if not (isinstance(loaded, type) and issubclass(loaded, InferenceModel)):
        raise ModelError(f"{entry_point.value} is neither a module nor a model class")
    if loaded not in [known for _, known in registered_uses()]:
        register_model(entry_point.name)(loaded)


def _load_for_pixano_inference(entry_point: EntryPoint, distribution: Distribution) -> None:
    from pixano_cli.models.pixano_inference_plugins import register_plugin

    register_plugin(entry_point, origin=f"{_name(distribution)} {distribution.version}")


def _unreadable(distribution: Distribution, error: Exception) -> Iterator[PluginFailure]:
    declared = distribution.read_text("entry_points.txt") or ""
    for group in (GROUP, PIXANO_INFERENCE_GROUP):
        if group in declared:
            line = f"its entry_points.txt is malformed ({_one_line(error)}): install it again"
            yield PluginFailure("entry_points.txt", group, _name(distribution), line)


def _name(distribution: Distribution) -> str:
    return distribution.metadata["Name"] or "unknown"


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, ModelError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
