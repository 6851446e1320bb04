"""Discovery of model plugins through real entry points of distributions on the path."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pixano_cli.models.base import registered_models
from pixano_cli.models.plugins import PluginFailure, discover_models

Offer = Callable[..., Path]

DETECTOR = """
from pixano_cli.models import DetectionModel, DetectionOutput, register_model
{decorator}
class {name}(DetectionModel):
    def load_model(self): pass
    def predict(self, input):
        return DetectionOutput(boxes=[], scores=[], classes=[])
"""


def detector(name: str, registered: str | None = None) -> str:
    decorator = f"@register_model({registered!r})" if registered else ""
    return DETECTOR.format(name=name, decorator=decorator)


def test_module_and_class_are_loaded(offer: Offer) -> None:
    offer(
        "two-birds",
        {"heron_module": detector("Heron", "heron"), "crane_module": detector("Crane")},
        "[pixano_cli.models]\na = heron_module\ncrane = crane_module:Crane\nb = heron_module:Heron",
    )
    failures = discover_models()
    models = registered_models()
    assert [failure for failure in failures if failure.distribution == "two-birds"] == []
    assert models["heron"].__name__ == "Heron"
    assert models["crane"].__name__ == "Crane"
    assert models["crane"].capability_name == "detection"
    assert not {"a", "b", "Heron"} & set(models)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("raise RuntimeError('two\\n  lines')", "RuntimeError: two lines"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("assert False", "AssertionError"),
        ("def", "SyntaxError: invalid syntax (stork_module.py, line 1)"),
    ],
)
def test_plugin_that_fails_is_told_and_others_work(offer: Offer, source: str, error: str) -> None:
    offer(
        "storks",
        {"stork_module": source, "heron_module": detector("Heron", "heron")},
        "[pixano_cli.models]\nheron = heron_module\nstork = stork_module\n",
    )
    failures = {failure.name: failure for failure in discover_models()}
    assert failures["stork"] == PluginFailure("stork", "pixano_cli.models", "storks", error)
    assert "heron" in registered_models()


def test_plugin_that_fails_half_way_registers_nothing(offer: Offer) -> None:
    half = detector("Early", "early") + "raise RuntimeError('too late')"
    offer("half", {"half_module": half}, "[pixano_cli.models]\nhalf = half_module\n")
    assert "half" in {failure.name for failure in discover_models()}
    assert "early" not in registered_models()


def test_class_that_is_no_model_is_told(offer: Offer) -> None:
    offer("odd", {"odd_module": "thing = 3"}, "[pixano_cli.models]\nodd = odd_module:thing\n")
    [failure] = [each for each in discover_models() if each.name == "odd"]
    assert failure.error == "odd_module:thing is neither a module nor a model class"


def test_of_two_plugins_with_one_name_the_second_fails(offer: Offer) -> None:
    first = detector("First", "heron")
    second = detector("Also", "also") + detector("Second", "heron")
    offer("b-second", {"second_module": second}, "[pixano_cli.models]\nx = second_module\n")
    offer("a-first", {"first_module": first}, "[pixano_cli.models]\nx = first_module\n")
    [failure] = [each for each in discover_models() if each.name == "x"]
    assert failure.distribution == "b-second"
    assert failure.error == "ValueError: model 'heron' is already registered by first_module"
    assert registered_models()["heron"].__name__ == "First"
    assert "also" not in registered_models()


def test_malformed_entry_points_are_told_and_others_work(offer: Offer) -> None:
    offer("broken", {}, "[pixano_cli.models]\nno equals sign\n")
    offer("unrelated", {}, "[console_scripts]\nno equals sign\n")
    offer("good", {"good_module": detector("Good", "good")}, "[pixano_cli.models]\na=good_module")
    failures = [each for each in discover_models() if each.distribution in ("broken", "unrelated")]
    assert [(each.distribution, each.name) for each in failures] == [("broken", "entry_points.txt")]
    assert "malformed" in failures[0].error
    assert "\n" not in failures[0].error
    assert "good" in registered_models()


SLOW = """
import time
from pathlib import Path
imports = Path(__file__).with_suffix(".log")
with imports.open("a") as log:
    log.write("imported ")
time.sleep(0.2)
""" + detector("Slow", "slow")


def test_many_threads_discover_once(offer: Offer) -> None:
    folder = offer("slow", {"slow_module": SLOW}, "[pixano_cli.models]\nslow = slow_module\n")

    def ask(_: int) -> tuple[int, bool]:
        return id(discover_models()), "slow" in registered_models()

    with ThreadPoolExecutor(8) as threads:
        answers = set(threads.map(ask, range(8)))
    assert answers == {(id(discover_models()), True)}
    assert (folder / "slow_module.log").read_text() == "imported "


def test_plugin_may_discover_while_it_is_loaded(offer: Offer) -> None:
    source = (
        "from pixano_cli.models.plugins import discover_models\n"
        "assert discover_models() == ()\n" + detector("Asking", "asking")
    )
    offer("asking", {"asking_module": source}, "[pixano_cli.models]\nasking = asking_module\n")
    discover_models()
    assert "asking" in registered_models()


def test_interrupted_discovery_starts_again(offer: Offer) -> None:
    source = (
        "from pathlib import Path\n"
        "seen = Path(__file__).with_suffix('.seen')\n"
        "if not seen.exists():\n"
        "    seen.touch()\n"
        "    raise KeyboardInterrupt\n" + detector("Late", "late")
    )
    offer("late", {"late_module": source}, "[pixano_cli.models]\nlate = late_module\n")
    with pytest.raises(KeyboardInterrupt):
        discover_models()
    discover_models()
    assert "late" in registered_models()


def test_fresh_process_has_own_models_first(offer: Offer) -> None:
    taking = detector("Taking", "picodet-s-416")
    folder = offer("aaa", {"aaa_module": taking}, "[pixano_cli.models]\naaa = aaa_module\n")
    code = (
        "import json, sys; from pixano_cli.models.plugins import discover_models; "
        "from pixano_cli.models.base import registered_models; "
        "failures = [(each.distribution, each.error) for each in discover_models()]; "
        "models = {n: c.__module__ for n, c in registered_models().items()}; "
        "heavy = [name for name in ('torch', 'sam2', 'onnxruntime') if name in sys.modules]; "
        "print(json.dumps([failures, models, heavy]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(folder)},
        cwd=Path(__file__).parents[2],
    )
    failures, models, heavy = json.loads(done.stdout)
    owner = "pixano_cli.models.picodet"
    assert failures == [
        ["aaa", f"ValueError: model 'picodet-s-416' is already registered by {owner}"]
    ]
    assert models == {
        "mobile-sam": "pixano_cli.models.mobile_sam",
        "picodet-s-416": owner,
        "pplcnetv2": "pixano_cli.models.pplcnet",
        **{
            f"sam2.1-{size}": "pixano_cli.models.sam2.image"
            for size in ("base-plus", "large", "small", "tiny")
        },
    }
    assert heavy == []
