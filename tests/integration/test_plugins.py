"""Models that others wrote, from the command line: listed, used, and reported when broken."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from .tool import Commands

# On the base classes of the real pixano-inference package, and found by its entry point group.
THEIRS = '''
import numpy as np
from pixano_inference.models import DetectionModel, DetectionOutput, register_model
from pixano_inference.utils.media import convert_string_to_image


@register_model("bright-box")
class BrightBox(DetectionModel):
    """Finds what is bright."""

    def load_model(self):
        self.limit = 200

    def predict(self, input):
        pixels = np.asarray(convert_string_to_image(input.image))
        ys, xs = np.nonzero(pixels.min(axis=2) > self.limit)
        box = [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]
        return DetectionOutput(boxes=[box], scores=[0.75], classes=["lamp"])
'''

OURS = '''
import numpy as np
from pixano_cli.models import DetectionModel, DetectionOutput, register_model


@register_model("dark-box")
class DarkBox(DetectionModel):
    """Finds what of an image is dark, many images a call."""

    def load_model(self):
        pass

    def predict(self, input):
        ys, xs = np.nonzero(input.image.max(axis=2) < 50)
        if not len(xs):
            raise RuntimeError("nothing is dark\\nat all")
        box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        return DetectionOutput(boxes=[box], scores=[0.9], classes=["shadow"])

    def predict_batch(self, inputs):
        return [self.predict(each) for each in inputs]
'''


@pytest.fixture
def plugged(commands: Commands, tmp_path: Path) -> Commands:
    """Commands that know three more distributions, one of them broken."""
    folder = tmp_path / "installed"
    modules = {"theirs": THEIRS, "ours": OURS, "broken": "import no_such_module_anywhere"}
    groups = {
        "theirs": "pixano_inference.models",
        "ours": "pixano_cli.models",
        "broken": "pixano_cli.models",
    }
    for name, source in modules.items():
        facts = folder / f"{name}-1.0.dist-info"
        facts.mkdir(parents=True)
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text(f"[{groups[name]}]\n{name} = {name}\n")
        (folder / f"{name}.py").write_text(source)
    paths = [str(folder), commands.environment["PYTHONPATH"]]
    return Commands(commands.folder, commands.environment | {"PYTHONPATH": os.pathsep.join(paths)})


def scene(path: Path) -> None:
    """Draw a grey picture with a white and a black part; the file says it lies on its side."""
    upright = Image.new("RGB", (120, 80), (128, 128, 128))
    upright.paste((255, 255, 255), (10, 20, 30, 60))
    upright.paste((0, 0, 0), (70, 5, 110, 25))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)


def boxes(path: Path) -> list[tuple[str, list[float]]]:
    content = json.loads(path.read_text())
    names = {each["id"]: each["name"] for each in content["categories"]}
    return [(names[each["category_id"]], each["bbox"]) for each in content["annotations"]]


def test_models_list_names_them_and_what_is_broken(plugged: Commands) -> None:
    done = plugged.run("models", "list")
    assert done.code == 0
    names = [line.split()[0] for line in done.out.splitlines()]
    assert {"bright-box", "dark-box", "mobile-sam", "picodet-s-416"} <= set(names)
    assert "plugin broken (broken" in done.err
    assert "no_such_module_anywhere" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_plugin_for_pixano_inference_annotates(plugged: Commands) -> None:
    scene(plugged.folder / "scene.png")
    done = plugged.run("detect", "scene.png", "-o", "out.json", "-m", "bright-box", "--json")
    assert done.code == 0, done.err
    assert boxes(plugged.folder / "out.json") == [("lamp", [10.0, 20.0, 20.0, 40.0])]
    again = plugged.run("detect", "scene.png", "-o", "out.json", "-m", "bright-box", "--json")
    assert again.counts == {"total": 1, "processed": 0, "cached": 1, "failed": 0}


@pytest.mark.parametrize("options", [(), ("--batch-size", "4")])
def test_a_model_of_ones_own_annotates_and_its_errors_are_one_line(
    plugged: Commands, options: tuple[str, ...]
) -> None:
    photos = plugged.folder / "photos"
    photos.mkdir()
    for index in range(6):
        scene(photos / f"{index}.png")
        Image.new("RGB", (9, 9 + index), (200, 200, 200)).save(photos / f"{index}-bright.png")
    done = plugged.run(
        "detect", "photos", "-o", "out.json", "-m", "dark-box", "--max-failures", "6", *options
    )
    assert done.code == 0, done.err
    assert boxes(plugged.folder / "out.json") == [("shadow", [70.0, 5.0, 40.0, 20.0])] * 6
    failed = [
        json.loads(line)
        for line in (plugged.folder / "out.json.failed.jsonl").read_text().splitlines()
    ]
    assert [each["path"] for each in failed] == [f"{index}-bright.png" for index in range(6)]
    assert all(each["stage"] == "infer" for each in failed)
    assert all("nothing is dark at all" in each["message"] for each in failed)
