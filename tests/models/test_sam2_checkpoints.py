"""Weights and networks of SAM 2: by name or one's own, checked, and loaded without running code."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pixano_cli.errors import ModelError, UsageError
from pixano_cli.models.base import ModelDeploymentConfig
from pixano_cli.models.sam2.checkpoints import PUBLISHED, TINY, Checkpoint
from pixano_cli.models.sam2.video import Sam2Video, Sam2VideoLarge, Sam2VideoTiny

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from pixano_cli.models.sam2.networks import load_network  # noqa: E402

from . import tiny_sam2  # noqa: E402
from .sam2_pair import BOX, COUNT, Pair  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

OWN = {"overrides": tiny_sam2.OVERRIDES}


@pytest.fixture(scope="module")
def weights(pair: Pair) -> Path:
    return pair.folder / "weights.pt"


def checkpoint(**parameters: Any) -> Checkpoint:
    return Checkpoint.of(TINY, parameters)


def load(**parameters: Any) -> Any:
    return load_network(checkpoint(**{**OWN, **parameters})).model


def new_model(model_class: type[Sam2Video] = Sam2VideoTiny, **parameters: Any) -> Sam2Video:
    name = model_class.published.name
    return model_class(
        ModelDeploymentConfig(
            name=name, capability="tracking", model_class=name, model_params=parameters
        )
    )


def test_the_network_is_the_official_one(pair: Pair, weights: Path) -> None:
    model = load(checkpoint=str(weights))
    ours, theirs = model.state_dict(), pair.official.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert type(model) is type(pair.official)
    assert not model.training
    settings = {
        name: value
        for name, value in vars(pair.official).items()
        if isinstance(value, bool | int | float | str | dict) and not name.startswith("_")
    }
    assert len(settings) > 30
    assert settings.items() <= {**vars(model), "training": False}.items()


def test_every_published_network_is_that_of_its_name() -> None:
    assert list(PUBLISHED) == ["sam2.1-tiny", "sam2.1-small", "sam2.1-base-plus", "sam2.1-large"]
    from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES

    for each in PUBLISHED.values():
        assert HF_MODEL_ID_TO_FILENAMES[each.repository] == (each.config, each.file)
        assert Checkpoint(each).config_text().startswith("# @package _global_")


def test_safetensors_and_bare_weights(pair: Pair, weights: Path, tmp_path: Path) -> None:
    expected = pair.official.state_dict()
    bare = tmp_path / "bare.pth"
    torch.save(expected, bare)
    tensors = tiny_sam2.save_weights(pair.official, tmp_path / "weights.safetensors")
    for path in (bare, tensors):
        loaded = load(checkpoint=str(path)).state_dict()
        assert all(torch.equal(loaded[name], value) for name, value in expected.items())


def test_a_configuration_file(weights: Path, tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    settings = OmegaConf.merge(
        OmegaConf.create(Checkpoint(TINY).config_text()),
        OmegaConf.from_dotlist(tiny_sam2.OVERRIDES),
    )
    file = tmp_path / "own.yaml"
    file.write_text(OmegaConf.to_yaml(settings))
    model = load(checkpoint=str(weights), config=str(file), overrides=["++model.fill_hole_area=0"])
    assert model.image_size == tiny_sam2.SIDE
    assert model.fill_hole_area == 0
    assert model.sam_mask_decoder.dynamic_multimask_stability_thresh == 0.98


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"checkpoint": "nowhere.pt"}, "there is no checkpoint nowhere.pt"),
        ({"config": "nowhere.yaml"}, "there is no configuration nowhere.yaml"),
        ({"overrides": []}, "does not fit"),
        ({"overrides": [*tiny_sam2.OVERRIDES, "model.num_maskmem=3"]}, "of another shape"),
        ({"overrides": ["model.does_not_exist=3"]}, "makes no network"),
        ({"overrides": ["model.image_size={"]}, "cannot be read"),
        ({"overrides": ["model.clear_non_cond_mem_around_input=true"]}, "set it to false"),
    ],
)
def test_what_does_not_fit(weights: Path, parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words) as raised:
        load(**{"checkpoint": str(weights), **parameters})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["broken.pt", "broken.safetensors", "empty.pt", "weights.bin"])
def test_files_that_are_no_weights(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"" if name.startswith("empty") else b"not weights at all")
    with pytest.raises(ModelError, match=name) as raised:
        load(checkpoint=str(path))
    assert "\n" not in str(raised.value)


def test_a_checkpoint_of_other_things(tmp_path: Path) -> None:
    for index, content in enumerate(({"model": {"a": 1}}, [1, 2], {})):
        path = tmp_path / f"{index}.pt"
        torch.save(content, path)
        with pytest.raises(ModelError, match="holds no weights"):
            load(checkpoint=str(path))


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("was-here",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_checkpoint_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"a": _Evil()}}, "evil.pt")
    Path("old.pt").write_bytes(pickle.dumps(_Evil()))
    for name in ("evil.pt", "old.pt"):
        with pytest.raises(ModelError, match="more than weights"):
            load(checkpoint=name)
    assert not Path("was-here").exists()


@pytest.mark.parametrize(
    "target",
    [
        "os.mkdir",
        "torch.load",
        "sam2.modeling.sam2_base.torch.hub.load",
        "sam2.build_sam.build_sam2",
        "torch.nn.modules.module.torch.load",
        "sam2.nowhere.Layer",
        "eval",
    ],
)
def test_a_configuration_cannot_run_code(weights: Path, target: str) -> None:
    override = f"model.image_encoder.trunk._target_={target}"
    with pytest.raises(ModelError, match="only classes of sam2"):
        load(checkpoint=str(weights), overrides=[*tiny_sam2.OVERRIDES, override])


def test_the_global_state_of_hydra_is_left_alone(weights: Path) -> None:
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra

    before = GlobalHydra.instance().hydra
    load(checkpoint=str(weights))
    load(checkpoint=str(weights))
    assert GlobalHydra.instance().hydra is before
    GlobalHydra.instance().clear()
    try:
        load(checkpoint=str(weights))
        assert not GlobalHydra.instance().is_initialized()
    finally:
        initialize_config_module("sam2", version_base="1.2")


def test_digests(weights: Path, tmp_path: Path) -> None:
    assert new_model().digest == TINY.sha256
    assert new_model(device="cuda:1", compile=True).digest == TINY.sha256
    assert new_model(Sam2VideoLarge).digest == PUBLISHED["sam2.1-large"].sha256

    own = new_model(checkpoint=str(weights), **OWN).digest
    assert new_model(path=str(weights), device="auto", compile=True, **OWN).digest == own
    copied = tmp_path / "copy.pt"
    copied.write_bytes(weights.read_bytes())
    assert new_model(checkpoint=str(copied), **OWN).digest == own
    copied.write_bytes(weights.read_bytes() + b" ")
    others = {
        own,
        TINY.sha256,
        new_model(checkpoint=str(copied), **OWN).digest,
        new_model(checkpoint=str(weights)).digest,
        new_model(checkpoint=str(weights), config="configs/sam2.1/sam2.1_hiera_s.yaml").digest,
        new_model(Sam2VideoLarge, checkpoint=str(weights)).digest,
        new_model(**OWN).digest,
    }
    assert len(others) == 7
    with pytest.raises(ModelError, match=r"there is no checkpoint nowhere\.pt"):
        _ = new_model(checkpoint="nowhere.pt").digest


def test_parameters(weights: Path) -> None:
    with pytest.raises(UsageError, match="no parameter 'weights'"):
        checkpoint(weights="x.pt")
    with pytest.raises(UsageError, match="KEY=VALUE"):
        checkpoint(overrides=["~model.image_size"])
    assert checkpoint(overrides="model.image_size=256").overrides == ("model.image_size=256",)
    with pytest.raises(UsageError, match="unknown device 'tpu'"):
        load_network(checkpoint(checkpoint=str(weights), **OWN), "tpu")
    device = "mps" if torch.cuda.is_available() else "cuda:7"
    with pytest.raises(ModelError, match=f"device {device} was asked for"):
        load_network(checkpoint(checkpoint=str(weights), **OWN), device)


class FakeHub(ModuleType):
    """Stands in for huggingface_hub: a cache, and a hub that cannot be reached."""

    def __init__(self, cached: Path | None, hub: Path | None) -> None:
        super().__init__("huggingface_hub")
        self.asked: list[tuple[str, str]] = []

        def try_to_load_from_cache(repository: str, file: str) -> str | None:
            return None if cached is None else str(cached)

        def hf_hub_download(repository: str, file: str) -> str:
            self.asked.append((repository, file))
            if hub is None:
                raise ConnectionError("no\nroute")
            return str(hub)

        self.__dict__.update(
            try_to_load_from_cache=try_to_load_from_cache, hf_hub_download=hf_hub_download
        )


def test_fetching(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = dataclasses.replace(TINY, sha256=hashlib.sha256(weights.read_bytes()).hexdigest())
    wanted = Checkpoint(published, overrides=tuple(tiny_sam2.OVERRIDES))

    offline = FakeHub(None, None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", offline)
    with pytest.raises(ModelError, match=r"no route.*--checkpoint") as raised:
        load_network(wanted)
    assert "\n" not in str(raised.value)
    assert offline.asked == [("facebook/sam2.1-hiera-tiny", "sam2.1_hiera_tiny.pt")]

    cached = FakeHub(weights, None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", cached)
    assert load_network(wanted).model.image_size == tiny_sam2.SIDE
    assert not cached.asked

    monkeypatch.setitem(sys.modules, "huggingface_hub", FakeHub(None, weights))
    assert load_network(wanted).model.image_size == tiny_sam2.SIDE

    altered = tmp_path / "altered.pt"
    altered.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    monkeypatch.setitem(sys.modules, "huggingface_hub", FakeHub(altered, None))
    with pytest.raises(ModelError, match="sha256 differs"):
        load_network(Checkpoint(TINY))


@pytest.mark.parametrize("package", ["torch", "sam2", "safetensors", "huggingface_hub"])
def test_a_missing_package(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelError, match=rf"{package}.*pip install.*pixano-annotate\[sam2\]"):
        load_network(Checkpoint(TINY))


IN_A_NEW_PROCESS = """
import json, sys
from pixano_cli.models.plugins import discover_models
import pixano_cli.models.sam2.video
heavy = {"torch", "sam2", "hydra", "omegaconf", "safetensors", "huggingface_hub", "torchvision"}
at_discovery = sorted(heavy & set(sys.modules))
import numpy as np
from pixano_cli.models.base import ModelDeploymentConfig
from pixano_cli.models.tracking import ObjectPrompt
model = pixano_cli.models.sam2.video.Sam2VideoTiny(ModelDeploymentConfig(
    name="own", capability="tracking", model_class="sam2.1-tiny", model_params=json.load(sys.stdin)
))
before_loading = sorted(heavy & set(sys.modules)) if model.digest else None
model.load_model()
session = model.open_session(40, 30)
image = np.full((30, 40, 3), 90, np.uint8)
session.condition(0, image, [ObjectPrompt(1, box=(3, 4, 20, 20))])
session.step(0, image)
session.step(1, image)
model.open_session(40, 30, session.state()).step(2, image)
print(json.dumps([at_discovery, before_loading, sorted(heavy & set(sys.modules))]))
"""


def test_what_is_imported_when(weights: Path) -> None:
    parameters = json.dumps({"checkpoint": str(weights), **OWN})
    ended = subprocess.run(
        [sys.executable, "-c", IN_A_NEW_PROCESS],
        input=parameters,
        capture_output=True,
        text=True,
        check=True,
    )
    at_discovery, before_loading, at_work = json.loads(ended.stdout)
    assert at_discovery == []
    assert before_loading == []
    assert "torch" in at_work
    assert "sam2" in at_work
    assert "torchvision" not in at_work
    assert ended.stderr == ""


def test_compiled_asks_torch_to_compile(
    pair: Pair, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def compile_(forward: Any, **options: Any) -> Any:
        asked.append(options)
        return forward

    monkeypatch.setattr(torch, "compile", compile_)
    pair.use_clip(COUNT)
    model = tiny_sam2.tracker(weights, compile=True)
    session = model.open_session(97, 61)
    session.condition(0, pair.frames[0], [BOX])
    assert [each["mode"] for each in asked] == ["max-autotune"]
    assert np.asarray(session.step(0, pair.frames[0])[1].mask.size).tolist() == [61, 97]


def test_a_gpu_without_enough_memory(weights: Path) -> None:
    network = load_network(checkpoint(checkpoint=str(weights), **OWN))

    def run() -> None:
        with network.running():
            raise torch.OutOfMemoryError("tried to allocate\n2 GiB")

    with pytest.raises(ModelError, match=r"smaller model.*tried to allocate 2 GiB"):
        run()
