"""The bare loop: threads that run MobileSAM's encoder and decoder, and nothing else.

`bare_segment.py FOLDER COCO THREADS` takes its prompts from the boxes of a COCO file, and prints
how long the loop took. Nothing of pixano_cli is used but the files of weights.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime
from PIL import Image

WEIGHTS = Path(__file__).parents[2] / "pixano_cli/models/weights"
SIDE = 1024
MEAN = np.array([123.675, 116.28, 103.53], np.float32)[:, None, None]
STD = np.array([58.395, 57.12, 57.375], np.float32)[:, None, None]


def segmenter() -> Callable[[Image.Image, Sequence[Sequence[float]]], int]:
    """Return what segments a picture's boxes [x, y, width, height] and tells how many pixels."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    encoder, decoder = (
        onnxruntime.InferenceSession(
            str(WEIGHTS / f"mobile_sam_{part}.onnx"), options, providers=["CPUExecutionProvider"]
        )
        for part in ("encoder", "decoder")
    )

    def segment(image: Image.Image, boxes: Sequence[Sequence[float]]) -> int:
        width, height = image.size
        scale = SIDE / max(image.size)
        fitted = round(width * scale), round(height * scale)
        resized = image.convert("RGB").resize(fitted, Image.Resampling.BILINEAR)
        tensor = np.zeros((1, 3, SIDE, SIDE), np.float32)
        pixels = np.asarray(resized).transpose(2, 0, 1)
        tensor[0, :, : fitted[1], : fitted[0]] = (pixels - MEAN) / STD
        (embedding,) = encoder.run(None, {"image": tensor})
        inside = 0
        for x, y, w, h in boxes:
            corners = np.array([[[x, y], [x + w, y + h]]], np.float32) * scale
            (masks,) = decoder.run(
                ["masks"],
                {
                    "image_embeddings": embedding,
                    "point_coords": corners.astype(np.float32),
                    "point_labels": np.array([[2, 3]], np.float32),
                    "mask_input": np.zeros((1, 1, 256, 256), np.float32),
                    "has_mask_input": np.zeros(1, np.float32),
                    "orig_im_size": np.array([height, width], np.float32),
                },
            )
            inside += int((masks[0, 0] > 0).sum())
        return inside

    return segment


def main(folder: str, coco: str, threads: str) -> None:
    """Segment the boxes of every file of a folder."""
    content = json.loads(Path(coco).read_text())
    boxes: dict[int, list[list[float]]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        boxes[annotation["image_id"]].append(annotation["bbox"])
    # Where there is nothing to segment, there is nothing to do, for either side.
    files = {
        Path(folder, image["file_name"]): boxes[image["id"]]
        for image in content["images"]
        if boxes[image["id"]]
    }
    segment = segmenter()

    def segment_in(path: Path, boxes: Sequence[Sequence[float]]) -> int:
        with Image.open(path) as image:
            return segment(image, boxes)

    started = perf_counter()
    with ThreadPoolExecutor(int(threads)) as pool:
        inside = sum(pool.map(segment_in, files, files.values()))
    print(json.dumps({"seconds": perf_counter() - started, "inside": inside}))


if __name__ == "__main__":
    main(*sys.argv[1:])
