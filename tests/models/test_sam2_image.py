"""SAM 2.1 on images against sam2's own predictor, on the same weights, which are random.

sam2's predictor needs torchvision, which cannot be imported beside every build of torch. Its two
transforms are pure functions of tensors, in one file that imports nothing but torch: that file is
used, in place of the package.
"""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixano_cli import rle
from pixano_cli.errors import ModelError, UsageError
from pixano_cli.models.base import ModelDeploymentConfig, RGBImage, registered_uses
from pixano_cli.models.everything import EverythingInput, grid
from pixano_cli.models.plugins import discover_models
from pixano_cli.models.segmentation import SegmentationInput, SegmentationOutput

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from pixano_cli.models.sam2 import image_network  # noqa: E402
from pixano_cli.models.sam2.checkpoints import TINY, Checkpoint  # noqa: E402
from pixano_cli.models.sam2.image import Sam2Image, Sam2ImageTiny  # noqa: E402
from pixano_cli.models.sam2.networks import _instantiate  # noqa: E402

SAMPLES = Path(__file__).parents[2] / "sample_data"
SMALL = ["model.image_size=256"]
BOXES = [[168.0, 16.0, 425.0, 302.0], [10.5, 20.25, 590.0, 390.0], [300.0, 200.0, 340.0, 260.0]]
POINTS = [[[300.0, 230.0]], [[540.0, 60.0]]]


def pixels(name: str) -> RGBImage:
    with Image.open(SAMPLES / name) as image:
        return np.asarray(image.convert("RGB"))


def new_model(**parameters: Any) -> Sam2Image:
    return Sam2ImageTiny(
        ModelDeploymentConfig(
            name=TINY.name,
            capability="segmentation",
            model_class=TINY.name,
            model_params=parameters,
        )
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    torch.manual_seed(7)
    network = _instantiate(Checkpoint(TINY, overrides=tuple(SMALL)))
    state = network.state_dict()
    # As it comes, the masks of a random network are flat: no stability is above 0.
    for name in state:
        if "output_hypernetworks_mlps" in name and name.endswith("layers.2.weight"):
            state[name] *= 40
    torch.save({"model": state}, path)
    return path


@pytest.fixture(scope="module")
def model(weights: Path) -> Iterator[Sam2Image]:
    made = new_model(checkpoint=str(weights), overrides=SMALL)
    made.load_model()
    yield made
    made.unload()


@pytest.fixture(scope="module")
def torchvision() -> Iterator[ModuleType]:
    """The functions on tensors of torchvision's transforms, as a package of that name."""
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        pytest.skip("torchvision is not installed")
    path = Path(found.origin).parent / "transforms" / "_functional_tensor.py"
    spec = importlib.util.spec_from_file_location("torchvision_functions", path)
    assert spec is not None
    assert spec.loader is not None
    functions = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(functions)

    class Resize(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, size: tuple[int, int]) -> None:
            super().__init__()
            self.size = size

        def forward(self, image: Any) -> Any:
            if tuple(image.shape[-2:]) == self.size:
                return image
            return functions.resize(image, list(self.size), "bilinear", antialias=True)

    class Normalize(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, mean: list[float], std: list[float]) -> None:
            super().__init__()
            self.mean, self.std = mean, std

        def forward(self, image: Any) -> Any:
            return functions.normalize(image, self.mean, self.std)

    def to_tensor(image: NDArray[np.uint8]) -> Any:
        return torch.tensor(image).permute(2, 0, 1).contiguous().float().div(255)

    package, transforms = ModuleType("torchvision"), ModuleType("torchvision.transforms")
    transforms.Normalize = Normalize  # type: ignore[attr-defined]
    transforms.Resize = Resize  # type: ignore[attr-defined]
    transforms.ToTensor = lambda: to_tensor  # type: ignore[attr-defined]
    package.transforms = transforms  # type: ignore[attr-defined]
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torchvision", package)
        patch.setitem(sys.modules, "torchvision.transforms", transforms)
        # Modules made here have no source to be compiled from.
        patch.setattr(torch.jit, "script", lambda module: module)
        yield package
    for name in set(sys.modules) - before:
        if name.startswith("sam2."):
            del sys.modules[name]


@pytest.fixture(scope="module")
def official(model: Sam2Image, torchvision: ModuleType) -> Callable[..., Any]:
    """sam2's own predictor with the same network, as a function of image and prompts."""
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    assert model._network is not None
    predictor = SAM2ImagePredictor(model._network.model)
    # It has the sizes of features that belong to 1024 pixels written down.
    predictor._bb_feat_sizes = [(64, 64), (32, 32), (16, 16)]
    shown: list[RGBImage] = []

    def predict(image: RGBImage, **prompts: Any) -> Any:
        if not shown or shown[-1] is not image:
            predictor.set_image(image)
            shown.append(image)
        return predictor.predict(**prompts)

    return predict


def same(output: SegmentationOutput, index: int, expected: Any) -> None:
    masks, ious, _ = expected
    assert output.scores[index].tolist() == pytest.approx(ious.tolist(), abs=1e-5)
    assert len(output.masks[index]) == len(masks)
    for mine, theirs in zip(output.masks[index], masks, strict=True):
        assert (rle.decode(mine) == (theirs > 0)).all()


@pytest.mark.parametrize("name", ["coffee.png", "astronaut.png"])
@pytest.mark.parametrize("several", [False, True])
def test_boxes_as_the_official_predictor(
    model: Sam2Image, official: Callable[..., Any], name: str, several: bool
) -> None:
    image = pixels(name)
    boxes = [[x * image.shape[1] / 600, y, a * image.shape[1] / 600, b] for x, y, a, b in BOXES]
    request = SegmentationInput(image=image, boxes=boxes, multimask_output=several)
    output = model.predict(request)
    assert output.image_embedding is None
    for index, box in enumerate(boxes):
        same(output, index, official(image, box=np.array(box), multimask_output=several))
    areas = {rle.area(mask) for masks in output.masks for mask in masks}
    assert len(areas) > 2


@pytest.mark.parametrize("several", [False, True])
def test_points_as_the_official_predictor(
    model: Sam2Image, official: Callable[..., Any], several: bool
) -> None:
    image = pixels("coffee.png")
    points = [*POINTS, [[200.0, 100.0], [30.0, 380.0]]]
    labels = [[1], [0], [1, 0]]
    request = SegmentationInput(image=image, points=points, labels=labels, multimask_output=several)
    output = model.predict(request)
    for index, (given, said) in enumerate(zip(points, labels, strict=True)):
        expected = official(
            image,
            point_coords=np.array(given),
            point_labels=np.array(said),
            multimask_output=several,
        )
        same(output, index, expected)


def test_a_box_with_points_as_the_official_predictor(
    model: Sam2Image, official: Callable[..., Any]
) -> None:
    image = pixels("coffee.png")
    points, labels = [[300.0, 230.0], [30.0, 380.0]], [1, 0]
    request = SegmentationInput(
        image=image, boxes=BOXES[:1], points=[points], labels=[labels], num_multimask_outputs=2
    )
    masks, ious, low = official(
        image,
        box=np.array(BOXES[0]),
        point_coords=np.array(points),
        point_labels=np.array(labels),
        multimask_output=True,
    )
    same(model.predict(request), 0, (masks[:2], ious[:2], low))


def test_an_embedding_saves_the_encoder_and_changes_nothing(
    model: Sam2Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = pixels("coffee.png")
    first = model.predict(SegmentationInput(image=image, boxes=BOXES, return_image_embedding=True))
    assert first.image_embedding is not None
    assert first.high_resolution_features is not None
    assert first.image_embedding.shape == (1, 256, 16, 16)
    shapes = [each.shape for each in first.high_resolution_features]
    assert shapes == [(1, 32, 64, 64), (1, 64, 32, 32)]
    assert first.image_embedding.dtype == np.float32
    monkeypatch.setattr(image_network, "encode", None)
    again = model.predict(
        SegmentationInput(
            image=image,
            boxes=BOXES,
            image_embedding=first.image_embedding,
            high_resolution_features=first.high_resolution_features,
        )
    )
    assert again.masks == first.masks
    assert (again.scores == first.scores).all()
    alone = model.predict(
        SegmentationInput(
            image=image,
            boxes=BOXES[1:2],
            image_embedding=first.image_embedding,
            high_resolution_features=first.high_resolution_features,
        )
    )
    assert alone.masks == first.masks[1:2]
    for wrong in (None, first.high_resolution_features[::-1]):
        with pytest.raises(ValueError, match="not this model's"):
            model.predict(
                SegmentationInput(
                    image=image,
                    boxes=BOXES,
                    image_embedding=first.image_embedding,
                    high_resolution_features=wrong,
                )
            )


def test_what_is_asked_wrongly_is_refused(model: Sam2Image) -> None:
    image = pixels("coffee.png")
    nothing = model.predict(SegmentationInput(image=image))
    assert nothing.masks == []
    assert nothing.scores.shape == (0, 3)
    with pytest.raises(TypeError, match="pixels"):
        model.predict(SegmentationInput(image="a.png", boxes=BOXES))
    with pytest.raises(ValueError, match="prompt 0: a box must be four"):
        model.predict(SegmentationInput(image=image, boxes=[[1.0, 2.0, 3.0]]))
    with pytest.raises(RuntimeError, match="load_model"):
        new_model().predict(SegmentationInput(image=image, boxes=BOXES))


def test_everything_as_the_official_generator_judges(
    model: Sam2Image, official: Callable[..., Any]
) -> None:
    image = pixels("coffee.png")
    points = grid(3, 600, 400)
    request = EverythingInput(image=image, points=points, min_iou=0.48, min_stability=0.05)
    found = list(model.point_masks(request))
    expected = []
    for point in points:
        logits, ious, _ = official(
            image,
            point_coords=np.array([point]),
            point_labels=np.array([1]),
            multimask_output=True,
            return_logits=True,
        )
        for plane, iou in zip(logits, ious, strict=True):
            outer = (plane > -1).sum()
            stability = float((plane > 1).sum() / outer) if outer else 0.0
            if iou >= 0.48 and stability >= 0.05 and (plane > 0).any():
                expected.append((point, float(iou), stability, plane > 0))
    assert 1 < len(expected) < 3 * len(points)
    assert [each.point for each in found] == [point for point, *_ in expected]
    for mine, (_, iou, stability, mask) in zip(found, expected, strict=True):
        assert mine.iou == pytest.approx(iou, abs=1e-6)
        assert mine.stability == pytest.approx(stability, abs=1e-9)
        assert (rle.decode(mine.mask) == mask).all()


def test_one_name_has_a_class_for_images_and_one_for_videos() -> None:
    discover_models()
    import pixano_cli.models.sam2.image
    import pixano_cli.models.sam2.video  # noqa: F401

    uses: dict[str, list[str | None]] = {}
    for name, model_class in registered_uses():
        uses.setdefault(name, []).append(model_class.capability_name)
    for size in ("tiny", "small", "base-plus", "large"):
        assert uses[f"sam2.1-{size}"] == ["segmentation", "tracking"]


def test_the_digest_is_that_of_the_weights(weights: Path, tmp_path: Path) -> None:
    assert new_model().digest == TINY.sha256
    assert new_model(device="cuda").digest == TINY.sha256
    own = new_model(path=str(weights)).digest
    copy = tmp_path / "copy.pt"
    copy.write_bytes(weights.read_bytes())
    assert new_model(checkpoint=str(copy)).digest == own != TINY.sha256
    with copy.open("ab") as file:
        file.write(b"\0")
    assert new_model(checkpoint=str(copy)).digest != own
    with pytest.raises(ModelError, match="no checkpoint"):
        _ = new_model(checkpoint=str(tmp_path / "none.pt")).digest
    with pytest.raises(UsageError, match="no parameter 'side'"):
        _ = new_model(side=3).digest
