"""The bare loop: threads that decode with Pillow and call ONNX Runtime, and nothing else.

`bare_detect.py FOLDER THREADS [reduced]` prints how long the loop took. Nothing of pixano_cli is
used but the file of weights. With `reduced` a JPEG is decoded at the scale that is enough.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime
from PIL import Image

WEIGHTS = Path(__file__).parents[2] / "pixano_cli/models/weights/picodet_s_416_coco80.onnx"
SIDE = 416
MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])
FACTOR = (1 / (255 * STD)).astype(np.float32)[:, None, None]
OFFSET = (-MEAN / STD).astype(np.float32)[:, None, None]


def detector() -> Callable[[Image.Image, tuple[int, int]], int]:
    """Return what detects the objects in a picture of a size and tells how many there are."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(WEIGHTS), options, providers=["CPUExecutionProvider"]
    )

    def detect(image: Image.Image, size: tuple[int, int]) -> int:
        scale = [[SIDE / size[1], SIDE / size[0]]]
        resized = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        tensor = np.empty((1, 3, SIDE, SIDE), np.float32)
        np.multiply(np.asarray(resized).transpose(2, 0, 1), FACTOR, out=tensor[0])
        tensor += OFFSET
        rows, _ = session.run(None, {"image": tensor, "scale_factor": np.array(scale, np.float32)})
        return int((rows[:, 1] > 0.5).sum())

    return detect


def main(folder: str, threads: str, *extra: str) -> None:
    """Detect in every file of a folder."""
    detect = detector()

    def detect_in(path: Path) -> int:
        with Image.open(path) as image:
            size = image.size
            if "reduced" in extra:
                image.draft(None, (SIDE, SIDE))
            return detect(image, size)

    started = perf_counter()
    with ThreadPoolExecutor(int(threads)) as pool:
        found = list(pool.map(detect_in, sorted(Path(folder).iterdir())))
    seconds = perf_counter() - started
    print(json.dumps({"seconds": seconds, "images": len(found), "objects": sum(found)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
