"""Make small videos, no two of them alike: `python write_clips.py FOLDER CLIPS FRAMES`.

In each a window moves to and fro over a photograph of a person.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import av
from PIL import Image

PHOTOGRAPH = Path(__file__).parents[2] / "sample_data" / "astronaut.png"
SIZE = (160, 120)


def make(folder: Path, clips: int, frames: int) -> None:
    """Write them."""
    with Image.open(PHOTOGRAPH) as opened:
        photograph = opened.convert("RGB")
    folder.mkdir(parents=True)
    for clip in range(clips):
        with av.open(str(folder / f"{clip:03}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
            for frame in range(frames):
                left = 60 + 50 * math.sin(frame / 40 + clip)
                shown = (left, 8 + clip, left + 380 + clip, 8 + clip + (380 + clip) * 3 / 4)
                picture = photograph.resize(SIZE, Image.Resampling.BILINEAR, box=shown)
                container.mux(stream.encode(av.VideoFrame.from_image(picture)))
            container.mux(stream.encode(None))


if __name__ == "__main__":
    make(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
