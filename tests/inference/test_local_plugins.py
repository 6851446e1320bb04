"""The local provider with plugins: how often they are loaded, what becomes of what they raise."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pixano_cli.errors import ImageDecodeError, ModelError
from pixano_cli.inference.errors import InferenceError, InferenceTimeoutError
from pixano_cli.inference.providers.local import LocalProvider
from pixano_cli.inference.types import ModelConfig
from pixano_cli.models import DetectionInput, DetectionOutput

from .local_detectors import Measure, Picture, Register, detect


def test_concurrent_first_calls_load_a_model_once(
    provider: LocalProvider, register: Register, picture: Picture
) -> None:
    loads = []

    class Slow(Measure):
        def load_model(self) -> None:
            loads.append(threading.get_ident())
            time.sleep(0.05)

    register(Slow)

    async def at_once() -> None:
        await asyncio.gather(*[detect(provider, picture(20, 10)) for _ in range(9)])

    asyncio.run(at_once())
    assert len(loads) == 1


def test_requests_run_side_by_side_but_no_more_than_asked(
    provider: LocalProvider, register: Register, picture: Picture
) -> None:
    running, most, lock = 0, 0, threading.Lock()

    class Counting(Measure):
        def predict(self, input: DetectionInput) -> DetectionOutput:  # noqa: A002
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.03)
            with lock:
                running -= 1
            return super().predict(input)

    register(Counting)

    async def at_once() -> None:
        await asyncio.gather(*[detect(provider, picture(20, 10)) for _ in range(9)])

    asyncio.run(at_once())
    assert most == 3


def test_a_plugin_that_cannot_be_loaded_is_told_in_one_line(
    provider: LocalProvider, register: Register, picture: Picture
) -> None:
    class Broken(Measure):
        def load_model(self) -> None:
            raise OSError("no weights\nhere")

    register(Broken)

    with pytest.raises(ModelError, match=r"^model 'plugin' cannot be loaded: OSError: no weights"):
        asyncio.run(detect(provider, picture(20, 10)))
    with pytest.raises(ModelError, match="no weights here"):
        asyncio.run(
            provider.instantiate_model(
                "local", ModelConfig("mine", "detection", config={"model_class": "plugin"})
            )
        )
    assert "mine" not in {each.name for each in asyncio.run(provider.list_models())}


def test_what_a_plugin_raises_names_the_model_and_the_image(
    provider: LocalProvider, register: Register, picture: Picture
) -> None:
    class Broken(Measure):
        def predict(self, input: DetectionInput) -> DetectionOutput:  # noqa: A002
            raise ValueError("out of\n  cheese " + "!" * 1000)

    register(Broken)

    with pytest.raises(InferenceError) as raised:
        asyncio.run(detect(provider, picture(20, 10)))

    line = str(raised.value)
    assert line.startswith("model 'plugin' failed on 20x10.png: ValueError: out of cheese !")
    assert type(raised.value) is InferenceError
    assert "\n" not in line
    assert len(line) < 500


def test_an_error_of_this_tool_from_a_plugin_comes_as_it_is(
    provider: LocalProvider, register: Register, picture: Picture
) -> None:
    class Picky(Measure):
        def predict(self, input: DetectionInput) -> DetectionOutput:  # noqa: A002
            raise ImageDecodeError("too grey")

    register(Picky)

    with pytest.raises(ImageDecodeError, match=r"^too grey$"):
        asyncio.run(detect(provider, picture(20, 10)))


@pytest.mark.parametrize(
    "output",
    [
        DetectionOutput(boxes=[[0, 0, 1, 1]], scores=[], classes=["a"]),
        DetectionOutput(boxes=[[0, 0, 1]], scores=[1.0], classes=["a"]),
        DetectionOutput(boxes=[[0, 0, 1, float("nan")]], scores=[1.0], classes=["a"]),
        DetectionOutput(boxes=[[0, 0, 1, 1]], scores=[float("inf")], classes=["a"]),
        None,
    ],
)
def test_an_answer_that_is_not_what_was_promised_is_an_error(
    provider: LocalProvider, register: Register, picture: Picture, output: Any
) -> None:
    class Odd(Measure):
        def predict(self, input: DetectionInput) -> DetectionOutput:  # noqa: A002
            answer: DetectionOutput = output
            return answer

    register(Odd)

    with pytest.raises(InferenceError, match=r"^model 'plugin' failed on 20x10\.png: "):
        asyncio.run(detect(provider, picture(20, 10)))


def test_a_timeout_is_an_error_and_the_provider_goes_on(
    provider: LocalProvider, register: Register, picture: Picture
) -> None:
    class Slow(Measure):
        def predict(self, input: DetectionInput) -> DetectionOutput:  # noqa: A002
            time.sleep(0.3 if input.box_threshold == 1 else 0)
            return super().predict(input)

    register(Slow)

    async def one_late() -> list[Any]:
        asked = [
            detect(provider, picture(20, 10), timeout=0.1, box_threshold=1),
            detect(provider, picture(20, 10)),
        ]
        return list(await asyncio.gather(*asked, return_exceptions=True))

    late, in_time = asyncio.run(one_late())
    assert isinstance(late, InferenceTimeoutError)
    assert "0.1 s" in str(late)
    assert in_time.data.boxes == [[0, 0, 20, 10]]


def test_a_timeout_inside_a_plugin_is_the_plugins_error(
    provider: LocalProvider, register: Register, picture: Picture
) -> None:
    class Remote(Measure):
        def predict(self, input: DetectionInput) -> DetectionOutput:  # noqa: A002
            raise TimeoutError("its own")

    register(Remote)

    with pytest.raises(InferenceError, match="TimeoutError: its own") as raised:
        asyncio.run(detect(provider, picture(20, 10)))
    assert not isinstance(raised.value, InferenceTimeoutError)


def test_a_model_is_not_unloaded_while_it_is_used(
    provider: LocalProvider, register: Register, picture: Picture
) -> None:
    events = []

    class Watched(Measure):
        def predict(self, input: DetectionInput) -> DetectionOutput:  # noqa: A002
            events.append("begin")
            time.sleep(0.1)
            events.append("end")
            return super().predict(input)

        def unload(self) -> None:
            events.append("unload")

    register(Watched)

    async def deleted_meanwhile() -> None:
        asked = asyncio.create_task(detect(provider, picture(20, 10)))
        while not events:
            await asyncio.sleep(0.005)
        await provider.delete_model("plugin")
        await asked

    asyncio.run(deleted_meanwhile())
    assert events == ["begin", "end", "unload"]


def test_closing_answers_what_waits_and_unloads(register: Register, picture: Picture) -> None:
    unloaded = []
    begun, goes_on = threading.Event(), threading.Event()

    class Slow(Measure):
        def predict(self, input: DetectionInput) -> DetectionOutput:  # noqa: A002
            begun.set()
            goes_on.wait(30)
            return super().predict(input)

        def unload(self) -> None:
            unloaded.append(True)

    register(Slow)

    async def closed() -> list[Any]:
        provider = LocalProvider(concurrency=1)
        await provider.list_models()
        asked = [asyncio.create_task(detect(provider, picture(20, 10))) for _ in range(3)]
        await asyncio.to_thread(begun.wait)
        # Long after closing has dropped those that wait.
        asyncio.get_running_loop().call_later(1.0, goes_on.set)
        await provider.aclose()
        return await asyncio.gather(*asked, return_exceptions=True)

    done, *waiting = asyncio.run(closed())
    assert done.data.classes == ["image"]
    assert all(type(each) is InferenceError and "closed" in str(each) for each in waiting)
    assert unloaded == [True]


def test_parameters_of_a_named_instance_reach_the_model(
    provider: LocalProvider, register: Register
) -> None:
    seen: dict[str, Any] = {}

    class Curious(Measure):
        def load_model(self) -> None:
            seen.update(self.config.model_params, name=self.model_name)

    register(Curious)
    config = ModelConfig(
        "mine",
        "detection",
        path=Path("weights.bin"),
        config={"model_class": "plugin", "model_params": {"size": 3}},
        processor_config={"crop": True},
    )

    asyncio.run(provider.instantiate_model("local", config))

    assert seen == {
        "name": "mine",
        "device": "cpu",
        "path": "weights.bin",
        "size": 3,
        "processor_config": {"crop": True},
    }
