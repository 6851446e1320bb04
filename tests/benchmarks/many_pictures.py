"""Make a folder of small pictures whose bytes differ, fast: `python many_pictures.py FOLDER COUNT`.

Each is one JPEG with a comment of its own, so none is answered by the record of another.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path


def make(folder: Path, count: int) -> None:
    """Write them."""
    from PIL import Image

    made = io.BytesIO()
    Image.new("RGB", (64, 48), (9, 99, 199)).save(made, "JPEG")
    start, rest = made.getvalue()[:2], made.getvalue()[2:]
    folder.mkdir(parents=True)
    for index in range(count):
        comment = b"\xff\xfe\x00\x0a" + b"%08d" % index
        (folder / f"{index:06}.jpg").write_bytes(start + comment + rest)


if __name__ == "__main__":
    make(Path(sys.argv[1]), int(sys.argv[2]))
