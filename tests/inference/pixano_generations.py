"""A server of the tests' own that speaks as each generation of Pixano Inference is said to.

What it does not expect it refuses, as the real ones do.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from .pixano_colours import COLOURS, Body, Colours, RefusedError

_CAPABILITIES = {
    "colours": "detection",
    "grounding-dino-colours": "detection",
    "boxes": "segmentation",
    "squares": "tracking",
    "echo": "vlm",
}
_TASKS = {
    "detection": "image_zero_shot_detection",
    "segmentation": "image_mask_generation",
    "tracking": "video_mask_generation",
    "vlm": "text_image_conditional_generation",
}
_OLD = {
    "/tasks/image/mask_generation/": "segmentation",
    "/tasks/image/zero_shot_detection/": "detection",
    "/tasks/video/mask_generation/": "tracking",
    "/tasks/multimodal/text-image/conditional_generation/": "vlm",
}


@dataclass
class PixanoServer(Colours):
    """A running server.

    Attributes:
        generation: 1 to 5.
        url: Its address.
        models: Its models and what they do.
        polls: How often it says that it is not done yet, before each answer.
        forgets: How many jobs it will forget, or results of tasks it will lose.
        ends_as: How tasks and jobs end.
        loading: How often it says that it has no models yet.
        asked: "METHOD path" of each request, in order.
        bodies: The body of each POST, in order.
        cancelled: Paths that were deleted.
    """

    generation: int
    url: str = ""
    models: dict[str, str] = field(default_factory=lambda: dict(_CAPABILITIES))
    polls: int = 2
    forgets: int = 0
    ends_as: str = ""
    loading: int = 0
    asked: list[str] = field(default_factory=list)
    bodies: list[Body] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    waiting: dict[str, tuple[int, Any]] = field(default_factory=dict)
    loads: dict[str, str] = field(default_factory=dict)

    def answer(self, method: str, path: str, body: Body | None) -> tuple[int, Any]:
        """Answer one request."""
        self.asked.append(f"{method} {path}")
        if body is not None:
            self.bodies.append(body)
        if self.generation >= 4:
            return self._new(method, path, body)
        if path == "/app/settings/" and method == "GET":
            return 200, self._settings()
        if path == "/app/models/" and method == "GET":
            return 200, [self._listed(name) for name in self.models]
        if path == "/ready" and self.generation in (2, 3):
            return self._readiness()
        if self.generation == 3:
            return self._third(method, path, body)
        route = next((route for route in _OLD if path.startswith(route)), "")
        if path == route and body is not None:
            if self.generation == 2:
                return 200, self._envelope(self._run(_OLD[route], body))
            data = self._run(_OLD[route], body)
            number = f"task-{len(self.asked)}"
            self.waiting[number] = (self.polls, data)
            return 200, {"id": number, "status": "PENDING"}
        if route and self.generation == 1:
            return self._task(method, path, path.removeprefix(route))
        if self.generation == 1 and path.startswith("/providers/"):
            return self._load(method, path, body)
        raise RefusedError(404, "Not Found")

    def _task(self, method: str, path: str, number: str) -> tuple[int, Any]:
        if method == "DELETE":
            self.cancelled.append(path)
            return 200, None
        # An id that it does not know is pending for ever, so one that was read is too.
        if self.forgets and number in self.waiting:
            # It came in the moment in which the server looked, and is gone.
            self.forgets -= 1
            del self.waiting[number]
        left, data = self.waiting.get(number, (1, None))
        if left:
            if number in self.waiting:
                self.waiting[number] = (left - 1, data)
            return 200, {"id": number, "status": ("PENDING", "STARTED", "RETRY")[left % 3]}
        if self.ends_as:
            return 200, {"id": number, "status": self.ends_as}
        del self.waiting[number]
        return 200, {**self._envelope(data), "id": number}

    def _load(self, method: str, path: str, body: Body | None) -> tuple[int, Any]:
        name = path.rpartition("/")[2]
        if method == "POST" and body is not None:
            config = body["config"]
            assert sorted(config) == ["config", "name", "path", "processor_config", "task"]
            if body["provider"] != "own":
                raise RefusedError(404, f"Provider {body['provider']} does not exist.")
            self.waiting["load-1"] = (self.polls, config)
            return 200, {"id": "load-1", "status": "PENDING"}
        if method == "GET":
            left, config = self.waiting[name]
            self.waiting[name] = (max(0, left - 1), config)
            if left:
                return 200, {"id": name, "status": "STARTED"}
            does = {task: capability for capability, task in _TASKS.items()}[config["task"]]
            self.models[config["name"]] = does
            return 200, {"id": name, "status": self.ends_as or "SUCCESS"}
        return self._unload(unquote(name))

    def _unload(self, name: str) -> tuple[int, Any]:
        if name not in self.models:
            raise RefusedError(404, f"Model {name} not found")
        del self.models[name]
        return 200, {"status": "deleted", "model": name} if self.generation >= 4 else None

    def _third(self, method: str, path: str, body: Body | None) -> tuple[int, Any]:
        if path.startswith("/inference/tracking/jobs/"):
            return self._job(method, path.removeprefix("/inference/tracking/jobs/"), path, body)
        if path.startswith("/inference/") and path.endswith("/") and body is not None:
            return 200, self._envelope(self._run(path.split("/")[2], body))
        raise RefusedError(404, "Not Found")

    def _new(self, method: str, path: str, body: Body | None) -> tuple[int, Any]:
        if path == "/v1/info":
            return 200, {
                "appName": "Pixano Inference",
                "appVersion": "0.6.0" if self.generation == 4 else "0.7.1",
                "numCpus": 2,
                "numGpus": 0,
                "numNodes": 1,
                "gpusUsed": 0,
                "models": list(self.models),
                "modelsStatus": {},
            }
        if path == "/v1/ready":
            return self._readiness()
        if path == "/v1/models" and method == "GET":
            return 200, [self._listed(name) for name in self.models]
        if path == "/v1/models" and body is not None:
            assert sorted(body) == ["deployment", "modelClass", "modelParams", "name"]
            if body["modelClass"] not in _CAPABILITIES:
                raise RefusedError(404, f"Unknown model class: {body['modelClass']}")
            if body["name"] in self.models:
                raise RefusedError(409, f"Model '{body['name']}' is already deployed.")
            self.models[body["name"]] = _CAPABILITIES[body["modelClass"]]
            return 201, self._listed(body["name"])
        if path.startswith("/v1/models/") and method == "DELETE":
            return self._unload(unquote(path.removeprefix("/v1/models/")))
        if path == "/v1/inference/tracking/jobs" or path.startswith("/v1/jobs/"):
            return self._job(method, path.removeprefix("/v1/jobs/"), path, body)
        if path.startswith("/v1/inference/") and body is not None:
            return 200, self._envelope(self._run(path.rpartition("/")[2], body))
        raise RefusedError(404, "Not Found")

    def _job(self, method: str, number: str, path: str, body: Body | None) -> tuple[int, Any]:
        if body is not None:
            data = self._run("tracking", body)
            number = f"job-{len(self.asked)}"
            self.waiting[number] = (self.polls, data)
            return 202, self._job_status(number, "running", None)
        if number not in self.waiting:
            raise RefusedError(404, f"Job '{number}' not found")
        if method == "DELETE":
            self.cancelled.append(path)
            return 200, self._job_status(number, "canceled", None)
        if self.forgets:
            self.forgets -= 1
            del self.waiting[number]
            raise RefusedError(404, f"Job '{number}' not found")
        left, data = self.waiting[number]
        self.waiting[number] = (max(0, left - 1), data)
        if left:
            return 200, self._job_status(number, "running", None)
        ends_as = self.ends_as or "completed"
        return 200, self._job_status(number, ends_as, data if ends_as == "completed" else None)

    def _job_status(self, number: str, status: str, data: Any) -> Body:
        names = ("job_id", "processing_time")
        if self.generation >= 4:
            names = ("jobId", "processingTime")
        return {
            names[0]: number,
            "status": status,
            "detail": "out of memory" if status == "failed" else None,
            "data": data,
            "metadata": {},
            names[1]: 0.5,
        } | ({} if self.generation == 4 else {"timestamp": "2026-11-21T12:00:00Z"})

    def _envelope(self, data: Any) -> Body:
        time = "processingTime" if self.generation >= 4 else "processing_time"
        # Up to 0.5 the moments have no zone.
        moment = "2026-11-21T12:00:00" + ("Z" if self.generation >= 3 else "")
        return {
            "id": "ray-1",
            "status": "SUCCESS",
            "timestamp": moment,
            time: 0.25,
            "metadata": {"model": "m"},
            "data": data,
        }

    def _readiness(self) -> tuple[int, Any]:
        if self.loading:
            self.loading -= 1
            raise RefusedError(503, "Models are loading.")
        return 200, {"status": "ready"}

    def _settings(self) -> Body:
        does = "models_to_capability" if self.generation == 3 else "models_to_task"
        told = self.models.items()
        return {
            "app_name": "Pixano Inference",
            "app_version": "0.5.6" if self.generation == 1 else "0.6.0.dev0",
            "app_description": "Of the tests' own.",
            "num_cpus": 2,
            "num_gpus": 1,
            "num_nodes": 1,
            "gpus_used": [0],
            "gpu_to_model": {"0": "squares"},
            "models": list(self.models),
            does: {name: each if self.generation == 3 else _TASKS[each] for name, each in told},
        }

    def _listed(self, name: str) -> Body:
        capability = self.models[name]
        if self.generation <= 2:
            facts = {} if self.generation == 1 else {"model_path": "p", "model_class": "c"}
            return {"name": name, "task": _TASKS[capability], **facts}
        if self.generation == 3:
            return {"name": name, "capability": capability, "model_path": "p", "model_class": "c"}
        interface = None
        if self.generation == 5 and name == "colours":
            classes = {"classes": "closed", "classNames": [*COLOURS]}
            interface = {"capability": "detection", **classes, "outputs": ["box"]}
        return {
            "name": name,
            "capability": capability,
            "modelPath": "p",
            "modelClass": "c",
            "status": "RUNNING",
        } | ({"interface": interface} if self.generation == 5 else {})

    def _run(self, capability: str, body: Body) -> Any:
        if body["model"] not in self.models or self.loading:
            raise RefusedError(404, f"Model '{body['model']}' not found")
        if self.models[body["model"]] != capability:
            raise RefusedError(400, f"Model '{body['model']}' does not support '{capability}'.")
        run = {
            "detection": self.detect,
            "segmentation": self.segment,
            "tracking": self.track,
            "vlm": self.say,
        }
        return run[capability](body)


@contextmanager
def pixano_server(generation: int, **facts: Any) -> Iterator[PixanoServer]:
    """Run a server of a generation until the block ends."""
    own = PixanoServer(generation, **facts)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

        def _reply(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            try:
                with lock:
                    status, value = own.answer(self.command, self.path, body)
            except RefusedError as error:
                status, value = error.status, {"detail": str(error)}
                if generation >= 4:
                    told = {"code": "refused", "message": str(error), "requestId": "1"}
                    value = {"error": told}
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _reply  # noqa: N815

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

    with Quiet(("127.0.0.1", 0), Handler) as server:
        own.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield own
        finally:
            server.shutdown()
            thread.join()
