"""How a decoded frame is to be turned and mirrored, as its display matrix tells.

Source: libavutil/display.h, after ISO/IEC 14496-12, 6.2.2: a stored point (x, y) is shown at
(a x + c y, b x + d y), shifted so that the picture begins at 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pixano_cli.media.decode import RGBImage

Matrix = tuple[int, int, int, int]
"""The numbers a, b, c, d of a display matrix, in 1/65536."""

_AS_STORED: Matrix = (65536, 0, 0, 65536)
# Counterclockwise, as libav gives an angle.
_BY_ANGLE: dict[int, Matrix] = {
    0: _AS_STORED,
    1: (0, -65536, 65536, 0),
    2: (-65536, 0, 0, -65536),
    3: (0, 65536, -65536, 0),
}


def read_matrix(frame: Any) -> Matrix:
    """Return the display matrix of a PyAV frame."""
    from av.sidedata.sidedata import SideDataContainer

    try:
        # `frame.side_data` stays with the frame, and the frame with it: a cycle of references, so
        # that frames pile up until Python looks for such.
        data = SideDataContainer(frame).get("DISPLAYMATRIX")  # type: ignore[call-arg]
    except ValueError:
        # PyAV refuses the side data of a frame as a whole if it does not know one kind of it.
        return _BY_ANGLE[round(frame.rotation / 90) % 4]
    if data is None:
        return _AS_STORED
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32, 5).tolist()
    return a, b, c, d


def is_turned(matrix: Matrix) -> bool:
    """Whether rows are shown as columns; an odd angle counts as the nearest right one."""
    a, b, c, d = matrix
    return abs(b) + abs(c) > abs(a) + abs(d)


def upright(pixels: RGBImage, matrix: Matrix) -> RGBImage:
    """Turn stored pixels [height, width, 3] into displayed ones; a view of them."""
    a, b, c, d = matrix
    if is_turned(matrix):
        pixels = pixels.transpose(1, 0, 2)
        a, d = c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
