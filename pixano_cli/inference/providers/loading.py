"""The models of this process: which there are, and each one from first use to unloading."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pixano_cli.errors import ModelError, PixanoAnnotateError, UsageError
from pixano_cli.inference.embedding import AnyTask, EmbeddingTask, task_of
from pixano_cli.inference.errors import (
    InvalidRequestError,
    ModelNotFoundError,
    TaskNotSupportedError,
    choices,
)
from pixano_cli.inference.provider import ModelDescription
from pixano_cli.inference.types import InferenceTask, ModelConfig
from pixano_cli.models.base import InferenceModel, ModelDeploymentConfig, registered_uses
from pixano_cli.models.everything import EverythingModel
from pixano_cli.models.plugins import PluginFailure, discover_models
from pixano_cli.models.tracking import StreamingTrackingModel

AnyModel = InferenceModel[Any, Any]

TASKS: Mapping[str, AnyTask] = {
    "detection": InferenceTask.OBJECT_DETECTION,
    "segmentation": InferenceTask.MASK_GENERATION,
    "tracking": InferenceTask.VIDEO_MASK_GENERATION,
    "vlm": InferenceTask.TEXT_GENERATION,
    "embedding": EmbeddingTask.IMAGE_EMBEDDING,
}
"""The task of each capability; a model of any other capability is asked by none of them."""

_CONFIGURABLE = ("resources", "max_batch_size", "batch_wait_timeout_s")


def one_line(error: BaseException) -> str:
    """Return an exception's type and text on one line of bounded length."""
    text = " ".join(str(error).split())
    if len(text) > 300:
        text = f"{text[:300]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _task(name: str) -> AnyTask | None:
    """Read a task's name, or a capability's; None for an empty one."""
    if not name:
        return None
    try:
        return TASKS[name] if name in TASKS else task_of(name)
    except ValueError:
        known = [*TASKS, *(task.value for task in TASKS.values())]
        raise TaskNotSupportedError(f"there is no task {name!r}: {choices(name, known)}") from None


class LocalModel:
    """One model under its name: loaded when first used, once, and unloaded when nothing uses it.

    All methods may be called from several threads at once.
    """

    def __init__(self, model_class: type[AnyModel], config: ModelDeploymentConfig) -> None:
        self.model_class = model_class
        self.config = config
        self._instance: AnyModel | None = None
        self._loaded = False
        self._users = 0
        self._digest: str | None = None
        self._metadata: dict[str, Any] = {}
        self._state = threading.Condition(threading.RLock())

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.config.name

    @property
    def task(self) -> AnyTask | None:
        """What it can be asked for; None if that is none of the tasks."""
        return TASKS.get(self.config.capability)

    @property
    def is_loaded(self) -> bool:
        """Whether it is in memory."""
        return self._loaded

    @property
    def digest(self) -> str:
        """Hex digest of its weights and parameters; does not load it.

        Raises:
            ModelError: If the plugin cannot tell it.
        """
        if self._digest is None:
            with self._state, self._plugin_code("cannot tell its digest"):
                self._digest = self._made().digest
        return self._digest

    @property
    def metadata(self) -> dict[str, Any]:
        """What goes with every answer: the model's own metadata and its digest."""
        return {**self._metadata, "provider": "local", "digest": self.digest}

    def describe(self) -> ModelDescription:
        """Tell what is known of the model, from its card; does not load it.

        Raises:
            KeyError: If it has no task.
            ModelError: If its weights are missing or it cannot tell its digest.
        """
        task, card = TASKS[self.config.capability], self.model_class.card
        described = ModelDescription(
            name=self.name,
            task=task,
            digest=self.digest,
            gives_everything=issubclass(self.model_class, EverythingModel),
            streams=issubclass(self.model_class, StreamingTrackingModel),
        )
        if card is None:
            return described
        return replace(
            described,
            license=card.license,
            origin=card.origin,
            description=card.description,
            size=sum(file.size for file in card.weights) if card.weights else None,
            categories=card.categories,
            embedding_size=card.embedding_size,
        )

    @contextmanager
    def in_use(self) -> Iterator[AnyModel]:
        """Load the model if it is not, and keep it loaded while it is used.

        Raises:
            ModelError: If it cannot be loaded.
        """
        with self._state:
            if not self._loaded:
                with self._plugin_code("cannot be loaded"):
                    instance = self._made()
                    instance.load_model()
                    self._metadata = dict(instance.metadata)
                self._loaded = True
            self._users += 1
            model = self._made()
        try:
            yield model
        finally:
            with self._state:
                self._users -= 1
                if self._users == 0:
                    self._state.notify_all()

    def load(self) -> None:
        """Load the model ahead of its use.

        Raises:
            ModelError: If it cannot be loaded.
        """
        with self.in_use():
            pass

    def unload(self) -> None:
        """Wait until nothing uses the model and free it; the next use loads it again.

        Raises:
            ModelError: If the plugin fails to.
        """
        with self._state:
            self._state.wait_for(lambda: self._users == 0)
            instance, was_loaded = self._instance, self._loaded
            self._instance, self._loaded = None, False
            if instance is not None and was_loaded:
                with self._plugin_code("cannot be unloaded"):
                    instance.unload()

    def _made(self) -> AnyModel:
        if self._instance is None:
            self._instance = self.model_class(self.config)
        return self._instance

    @contextmanager
    def _plugin_code(self, what: str) -> Iterator[None]:
        try:
            yield
        except PixanoAnnotateError:
            raise
        except Exception as error:
            raise ModelError(f"model {self.name!r} {what}: {one_line(error)}") from error


class LocalModels:
    """Every model of this process: registered ones, and named instances of these.

    One name may stand for several uses of a model, each of which is a `LocalModel` of its own.
    """

    def __init__(
        self, device: str, model_params: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        """Make it.

        Args:
            device: Given to every model.
            model_params: What more is given to the registered model of a name.
        """
        self._device = device
        self._parameters = model_params or {}
        self._models: dict[tuple[str, str], LocalModel] = {}
        self._named: set[str] = set()
        self._failures: tuple[PluginFailure, ...] = ()
        self._lock = threading.Lock()

    def discover(self) -> None:
        """Load the plugins, once a process; slow the first time, as they import what they need."""
        with self._lock:
            self._failures = discover_models()

    def all(self) -> list[LocalModel]:
        """Return the models that can be asked for a task, in order of name.

        Raises:
            UsageError: If a model is given parameters and takes none.
        """
        with self._lock:
            self._take_registered()
            return [model for _, model in sorted(self._models.items()) if model.task is not None]

    def known(self) -> list[LocalModel]:
        """Return those that were looked at so far."""
        with self._lock:
            return list(self._models.values())

    def uses(self, name: str, task: AnyTask | None = None) -> list[LocalModel]:
        """Return what a name stands for: one model or several, each for another task.

        Args:
            name: The name.
            task: What is wanted, for the error.

        Raises:
            ModelNotFoundError: If there is none of the name.
            TaskNotSupportedError: If no task asks for what it does.
            UsageError: If a model is given parameters and takes none.
        """
        with self._lock:
            self._take_registered(name)
            found = [model for (each, _), model in sorted(self._models.items()) if each == name]
        if not found:
            raise ModelNotFoundError(self._unknown(name, task))
        uses = [model for model in found if model.task is not None]
        if not uses:
            raise TaskNotSupportedError(
                f"model {name!r} has capability {found[0].config.capability!r}, which no task of a "
                "provider asks for"
            )
        return uses

    def find(self, name: str, task: AnyTask | None = None) -> LocalModel:
        """Return a model by name, for a task; without one, the first of its uses.

        Raises:
            ModelNotFoundError: If there is none of the name.
            TaskNotSupportedError: If it is for another task.
            UsageError: If a model is given parameters and takes none.
        """
        uses = self.uses(name, task)
        if task is None:
            return uses[0]
        for model in uses:
            if model.task is task:
                return model
        raise TaskNotSupportedError(self._unfit(uses, task))

    def add(self, config: ModelConfig) -> LocalModel:
        """Make a named instance of a registered class, or return the registered one.

        Raises:
            ModelNotFoundError: If the class that is configured is not registered.
            TaskNotSupportedError: If it does not do the task that is configured.
            InvalidRequestError: If the name is taken or the configuration cannot be used.
        """
        model_class = str(config.config.get("model_class", config.name))
        if model_class == config.name and not (
            config.path or config.config or config.processor_config
        ):
            return self.find(config.name, _task(config.task))
        registered, deployment = self._deployment(config, model_class)
        with self._lock:
            if config.name in self._named or config.name in _by_name():
                raise InvalidRequestError(
                    f"the name {config.name!r} is taken by another local model: choose another"
                )
            self._named.add(config.name)
            model = LocalModel(registered, deployment)
            self._models[config.name, deployment.capability] = model
        return model

    def forget(self, name: str) -> None:
        """Forget a named instance; a registered model stays known."""
        with self._lock:
            if name in self._named:
                self._named.discard(name)
                self._models = {key: each for key, each in self._models.items() if key[0] != name}

    def _deployment(
        self, config: ModelConfig, model_class: str
    ) -> tuple[type[AnyModel], ModelDeploymentConfig]:
        known = _by_name()
        if model_class not in known:
            raise ModelNotFoundError(
                f"there is no local model class {model_class!r}: {choices(model_class, known)}"
            )
        task = _task(config.task)
        does = [each.capability_name or "nothing known" for each in known[model_class]]
        fit = [
            (each, capability)
            for each, capability in zip(known[model_class], does, strict=True)
            if capability in TASKS and task in (None, TASKS[capability])
        ]
        if not fit:
            raise TaskNotSupportedError(
                f"local model class {model_class!r} does {' and '.join(does)}, "
                f"not {config.task or 'what a task of a provider asks for'}"
            )
        registered, capability = fit[0]
        what = f"the configuration of model {config.name!r}"
        unknown = sorted(set(config.config) - {"model_class", "model_params", *_CONFIGURABLE})
        if unknown:
            raise InvalidRequestError(f"{what} has unknown keys: {', '.join(unknown)}")
        parameters: dict[str, Any] = {"device": self._device}
        if config.path:
            parameters["path"] = str(config.path)
        if config.processor_config:
            parameters["processor_config"] = config.processor_config
        try:
            return registered, ModelDeploymentConfig(
                name=config.name,
                capability=capability,
                model_class=model_class,
                model_params={**parameters, **config.config.get("model_params", {})},
                **{key: config.config[key] for key in _CONFIGURABLE if key in config.config},
            )
        except (TypeError, ValueError) as error:
            raise InvalidRequestError(f"{what} cannot be used: {one_line(error)}") from error

    def _take_registered(self, only: str | None = None) -> None:
        """Make what is registered, of all names or of one, models of this process."""
        for name, model_class in registered_uses():
            capability = model_class.capability_name or ""
            if only in (None, name) and (name, capability) not in self._models:
                parameters = self._parameters.get(name, {})
                if parameters and model_class.card is not None and model_class.card.weights:
                    raise UsageError(
                        f"model {name!r} has its weights in its package and takes no others, "
                        "nor is it compiled: leave --checkpoint and --compile out, or name another "
                        "model"
                    )
                config = ModelDeploymentConfig(
                    name=name,
                    capability=capability,
                    model_class=name,
                    model_params={**parameters, "device": self._device},
                )
                self._models[name, capability] = LocalModel(model_class, config)

    def _unknown(self, name: str, task: AnyTask | None) -> str:
        fit = dict.fromkeys(model.name for model in self.all() if task in (None, model.task))
        broken = "".join(f"; plugin {each.name!r} failed: {each.error}" for each in self._failures)
        return f"there is no local model {name!r}: {choices(name, [*fit])}{broken}"

    def _unfit(self, uses: Sequence[LocalModel], task: AnyTask) -> str:
        does = " and ".join(model.task.value for model in uses if model.task)
        fit = sorted(each.name for each in self.all() if each.task is task)
        listed = f"use one of: {', '.join(fit)}" if fit else "install a plugin that does it"
        return f"model {uses[0].name!r} does {does}, not {task.value}: {listed}"


def _by_name() -> dict[str, list[type[AnyModel]]]:
    """Return the registered classes of each name."""
    classes: dict[str, list[type[AnyModel]]] = {}
    for name, model_class in registered_uses():
        classes.setdefault(name, []).append(model_class)
    return classes
