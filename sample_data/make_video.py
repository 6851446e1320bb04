"""Make pan.mp4 and pan.json: `make_video.py [FOLDER]`, in the folder of this file by default.

A window pans and zooms over astronaut.png, there and almost back, so where the person is in each
frame follows from where the window is. pan.json tells it.
"""

import json
import math
import sys
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image

HERE = Path(__file__).parent
PHOTOGRAPH = "astronaut.png"
LABEL = "person"
# Xmin, ymin, xmax, ymax in pixels of the photograph: the extent of MobileSAM's mask for a box drawn
# by hand around the person, and right by eye to two pixels. The photograph ends before the person.
PERSON = (20.0, 16.0, 360.0, 512.0)
WIDTH, HEIGHT = 384, 288
FRAMES, FRAME_RATE = 60, 30

Box = tuple[float, float, float, float]


def window(frame: int) -> Box:
    """Return what of the photograph a frame shows: left, top, right, bottom, in its pixels."""
    way = frame / (FRAMES - 1)
    away = math.sin(math.pi * way)
    left = 56.0 * away + 8.0 * way
    top = 8.0 * away + 4.0 * way
    width = 504.0 - 100.0 * away - 30.0 * way
    return left, top, left + width, top + width * HEIGHT / WIDTH


def person_in(shown: Box) -> list[float]:
    """Return the person's box in a frame: xmin, ymin, xmax, ymax, in pixels of the frame."""
    left, top, right, _ = shown
    scale = WIDTH / (right - left)
    corners = zip(PERSON, (left, top, left, top), (WIDTH, HEIGHT, WIDTH, HEIGHT), strict=True)
    return [round(min(max(scale * (at - zero), 0.0), float(end)), 2) for at, zero, end in corners]


def main(folder: Path) -> None:
    """Write the video and the true boxes."""
    with Image.open(HERE / PHOTOGRAPH) as opened:
        photograph = opened.convert("RGB")
    windows = [window(frame) for frame in range(FRAMES)]
    # The index in front, so that players and browsers begin at once.
    with av.open(str(folder / "pan.mp4"), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE, options={"crf": "20"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, FRAME_RATE)
        for shown in windows:
            size = (WIDTH, HEIGHT)
            picture = photograph.resize(size, Image.Resampling.LANCZOS, box=shown)
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode(None))
    truth = {
        "video": "pan.mp4",
        "made_from": PHOTOGRAPH,
        "label": LABEL,
        "width": WIDTH,
        "height": HEIGHT,
        "frame_rate": FRAME_RATE,
        "boxes": [person_in(shown) for shown in windows],
    }
    lines = ",\n".join(f'  "{key}": {json.dumps(value)}' for key, value in truth.items())
    (folder / "pan.json").write_text("{\n" + lines.replace("], [", "],\n   [") + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
