"""The tool from outside: commands, photographs to give them, and models that count."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from pixano_cli.cli.app import run as run_command_line
from pixano_cli.models import base, plugins

from .tool import (
    PHOTOGRAPHS,
    SAMPLES,
    Commands,
    Done,
    Log,
    as_text,
    copy_images,
    counting_commands,
)


@pytest.fixture(scope="session")
def counting_distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the path, with an installed distribution of counting models."""
    folder = tmp_path_factory.mktemp("installed")
    facts = folder / "counting-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: counting\nVersion: 1.0\n")
    modules = ("counting_models", "counting_video_models")
    lines = [f"{name} = {name}" for name in modules]
    (facts / "entry_points.txt").write_text("\n".join(["[pixano_cli.models]", *lines, ""]))
    for name in modules:
        shutil.copy(Path(__file__).with_name(f"{name}.py"), folder)
    return folder


@pytest.fixture
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """What the counting models of this test noted."""
    return Log(tmp_path_factory.mktemp("log") / "calls")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """An empty folder to work in."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def commands(work: Path, log: Log, counting_distribution: Path) -> Commands:
    """Commands in processes of their own, which know the counting models."""
    return counting_commands(work, counting_distribution, log)


@pytest.fixture
def command(
    work: Path,
    log: Log,
    counting_distribution: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[Callable[..., Done]]:
    """The command line in this process, which is quicker: it too knows the counting models."""
    monkeypatch.chdir(work)
    monkeypatch.delenv("PIXANO_STORE", raising=False)
    monkeypatch.setenv("COUNTING_LOG", str(log.path))
    # Before they can be found: else they would stay registered, as what is gone after this test.
    plugins.discover_models()
    monkeypatch.syspath_prepend(str(counting_distribution))
    monkeypatch.setattr(base, "_REGISTRY", dict(base._REGISTRY))
    monkeypatch.setattr(plugins, "_failures", None)

    def run(*arguments: object) -> Done:
        capfd.readouterr()
        code = run_command_line([os.fsdecode(as_text(each)) for each in arguments])
        out, err = capfd.readouterr()
        return Done(code, out, err)

    yield run
    for name in ("counting_models", "counting_video_models"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="session")
def crops() -> Callable[[int], list[Image.Image]]:
    """Photographs in any number: different parts of the samples, 320x240 or so."""
    samples = [Image.open(SAMPLES / name).convert("RGB") for name in PHOTOGRAPHS]

    def make(number: int) -> list[Image.Image]:
        choose = random.Random(2)
        made = []
        for index in range(number):
            sample = samples[index % len(samples)]
            width = choose.randint(sample.width // 2, sample.width)
            height = choose.randint(sample.height // 2, sample.height)
            left = choose.randint(0, sample.width - width)
            top = choose.randint(0, sample.height - height)
            part = sample.crop((left, top, left + width, top + height))
            made.append(part.resize((choose.randint(280, 360), choose.randint(210, 270))))
        return made

    return make


@pytest.fixture(scope="session")
def gallery(
    tmp_path_factory: pytest.TempPathFactory, crops: Callable[[int], list[Image.Image]]
) -> Path:
    """A folder of 300 JPEG images in folders; nobody changes it."""
    root = tmp_path_factory.mktemp("gallery") / "photos"
    for index, crop in enumerate(crops(300)):
        path = root / f"{index % 7}" / f"{index:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        crop.save(path, quality=85)
    return root


@pytest.fixture
def photos(gallery: Path, work: Path) -> Callable[..., Path]:
    """Put some images of the gallery into a folder of the test's own."""

    def put(number: int, folder: str = "photos", first: int = 0) -> Path:
        root = work / folder
        copy_images(gallery, root, number, first)
        return root

    return put


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photographs, one of them taken in Paris, and the store of what two runs found.

    They were detected in and embedded by the embedded models. Nobody changes it.
    """
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "photos").mkdir()
    for name in PHOTOGRAPHS:
        shutil.copy(SAMPLES / name, folder / "photos")
    exif = Image.Exif()
    exif[0x010F] = "maker"  # Pillow writes no directories below an empty one.
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 30.0), 3: "E", 4: (2.0, 17.0, 40.2)})
    exif.get_ifd(0x8769).update({0x9003: "2023:05:01 12:30:00", 0x9011: "+02:00"})
    cat = Image.open(SAMPLES / "chelsea.png").convert("RGB").crop((40, 0, 400, 300))
    cat.save(folder / "photos" / "paris.jpg", exif=exif)
    for arguments in (("detect", "-o", "boxes.json"), ("embed", "-o", "vectors.parquet")):
        name, *options = arguments
        subprocess.run(
            [sys.executable, "-m", "pixano_cli", name, "photos", *options, "--store", "store"],
            cwd=folder,
            check=True,
            capture_output=True,
        )
    return folder


@pytest.fixture
def record(recorded: Path, work: Path) -> Path:
    """A copy of that store, where the commands of a test look for one."""
    return shutil.copytree(recorded / "store", work / ".pixano-annotate")
