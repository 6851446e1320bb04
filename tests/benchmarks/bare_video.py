"""The bare calls of the two models on frames that are decoded already, and nothing else.

`bare_video.py VIDEO COCO THREADS` runs PicoDet on every frame, and MobileSAM on the boxes that the
COCO file has there. It prints how long the loop took, and how long the decoding before it. Nothing
of pixano_cli is used but the files of weights.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import av
from bare_detect import detector
from bare_segment import segmenter
from PIL import Image


def main(video: str, coco: str, threads: str) -> None:
    """Run both networks over the frames of a COCO file."""
    content = json.loads(Path(coco).read_text())
    boxes: dict[int, list[list[float]]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        boxes[annotation["image_id"]].append(annotation["bbox"])
    wanted = {image["frame_index"]: boxes[image["id"]] for image in content["images"]}
    started = perf_counter()
    with av.open(video) as container:
        frames = [
            (frame.to_image(), wanted[index])
            for index, frame in enumerate(container.decode(video=0))
            if index in wanted
        ]
    decoded = perf_counter() - started
    detect, segment = detector(), segmenter()

    def both(frame: Image.Image, inside: list[list[float]]) -> int:
        detect(frame, frame.size)
        return segment(frame, inside) if inside else 0

    started = perf_counter()
    with ThreadPoolExecutor(int(threads)) as pool:
        pixels = sum(pool.map(both, *zip(*frames, strict=True)))
    seconds = perf_counter() - started
    print(json.dumps({"seconds": seconds, "decoding": decoded, "pixels": pixels}))


if __name__ == "__main__":
    main(*sys.argv[1:])
