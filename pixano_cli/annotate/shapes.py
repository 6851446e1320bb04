"""Elements of any task as annotations: what shapes they have, drawn into an image.

Elements come from whoever stored them, so everything about them is checked. All coordinates are
pixels of the displayed image, with the origin at its top left corner, and y down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pixano_cli import rle
from pixano_cli.annotations import Annotation, Box
from pixano_cli.inference_store.models import TaskType
from pixano_cli.rle import CompressedRLEData

Point = tuple[float, float]

# No image is so large. With numbers below it none overflows on the way.
_FAR = 1e10
# Where a mask is drawn memory grows with the length of its outline.
_LONGEST_SIDE = 100_000


class ElementError(ValueError):
    """An element is not of its task's form; the text is one line that says how."""


def annotation_of(
    task_type: str, element: Mapping[str, Any], width: int, height: int
) -> Annotation | None:
    """Read an element as an annotation of an image of `width` x `height` pixels.

    An oriented box becomes its upright one, and a mask of the pixels inside the turned one; a
    contour becomes the mask of the pixels inside any of its polygons.

    Args:
        task_type: What the element's record is of: Object Detection, Oriented Object Detection
            or Image Segmentation.
        element: The element.
        width: Width of the displayed image in pixels.
        height: Height of the displayed image in pixels.

    Returns:
        The annotation, or None where nothing of the object lies inside the image.

    Raises:
        ElementError: If the element is not of the task's form.
    """
    shape = _SHAPES[task_type](element, width, height)
    if shape is None:
        return None
    box, mask, area = shape
    score = element.get("score")
    return Annotation(
        element["label"], None if score is None else _number(element, "score"), box, area, mask
    )


_Shape = tuple[Box, CompressedRLEData | None, float]


def _upright(element: Mapping[str, Any], width: int, height: int) -> _Shape | None:
    box = Box(
        _number(element, "xmin"),
        _number(element, "ymin"),
        _number(element, "xmax"),
        _number(element, "ymax"),
    ).clip(width, height)
    return None if box.is_empty else (box, None, box.area)


def _oriented(element: Mapping[str, Any], width: int, height: int) -> _Shape | None:
    cx, cy, w, h = (_coordinate(element, key) for key in ("cx", "cy", "w", "h"))
    corners = oriented_corners(cx, cy, w, h, _number(element, "r"))
    inside = clip_polygon(corners, width, height)
    if not inside:
        return None
    xs, ys = [x for x, _ in inside], [y for _, y in inside]
    box = Box(min(xs), min(ys), max(xs), max(ys)).clip(width, height)
    if box.is_empty:
        return None
    mask = _mask([inside], width, height)
    # One that is too thin to hold the middle of a pixel has no mask.
    if mask is None:
        return box, None, _area(inside)
    return box, mask, float(rle.area(mask))


def _segmented(element: Mapping[str, Any], width: int, height: int) -> _Shape | None:
    if "rle" in element:
        mask: CompressedRLEData | None = _checked_rle(element["rle"], width, height)
    elif "contour" in element:
        polygons = _polygons(element["contour"])
        clipped = [clip_polygon(polygon, width, height) for polygon in polygons]
        mask = _mask([polygon for polygon in clipped if polygon], width, height)
    else:
        raise ElementError("it has neither rle nor contour")
    if mask is None:
        return None
    box = Box(*rle.bounding_box(mask))
    return None if box.is_empty else (box, mask, float(rle.area(mask)))


_SHAPES: Mapping[str, Callable[[Mapping[str, Any], int, int], _Shape | None]] = {
    TaskType.OBJECT_DETECTION.value: _upright,
    TaskType.ORIENTED_OBJECT_DETECTION.value: _oriented,
    TaskType.IMAGE_SEGMENTATION.value: _segmented,
}
DRAWN = tuple(_SHAPES)
"""The tasks whose elements have a shape."""


def oriented_corners(cx: float, cy: float, w: float, h: float, r: float) -> list[Point]:
    """Return the corners of a box of w x h around (cx, cy), turned by r radians.

    Turned from the x axis towards the y axis, which is clockwise as seen on a screen.
    """
    cos, sin = math.cos(r), math.sin(r)
    return [
        (cx + x * cos - y * sin, cy + x * sin + y * cos)
        for x, y in ((-w / 2, -h / 2), (w / 2, -h / 2), (w / 2, h / 2), (-w / 2, h / 2))
    ]


def clip_polygon(polygon: Sequence[Point], width: float, height: float) -> list[Point]:
    """Return the part of a polygon inside an image; empty if there is none.

    I. E. Sutherland, G. W. Hodgman, "Reentrant Polygon Clipping", CACM 17 (1974): parts that the
    image's border cuts from each other stay connected along the border.
    """
    clipped = list(polygon)
    for axis, limit, sign in ((0, 0.0, 1), (0, width, -1), (1, 0.0, 1), (1, height, -1)):
        before, clipped = clipped, []
        for start, end in zip(before, [*before[1:], *before[:1]], strict=True):
            start_in = sign * (start[axis] - limit) >= 0
            end_in = sign * (end[axis] - limit) >= 0
            if start_in:
                clipped.append(start)
            if start_in != end_in:
                clipped.append(_crossing(start, end, axis, limit))
    return clipped


def _crossing(start: Point, end: Point, axis: int, limit: float) -> Point:
    part = (limit - start[axis]) / (end[axis] - start[axis])
    other = start[1 - axis] + part * (end[1 - axis] - start[1 - axis])
    return (limit, other) if axis == 0 else (other, limit)


def _area(polygon: Sequence[Point]) -> float:
    """Return the area of a polygon that does not cross itself."""
    pairs = zip(polygon, [*polygon[1:], *polygon[:1]], strict=True)
    return abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairs)) / 2


def _mask(polygons: Sequence[Sequence[Point]], width: int, height: int) -> CompressedRLEData | None:
    """Return the mask of the pixels in any of the polygons; None if there are none."""
    from pycocotools import mask as coco_mask

    if max(width, height) > _LONGEST_SIDE:
        raise ElementError(f"an image of {width} x {height} pixels is too large to draw masks in")
    # pycocotools takes four numbers for a box.
    flat = [[number for point in each for number in point] for each in polygons if len(each) > 2]
    if not flat:
        return None
    drawn = coco_mask.merge(coco_mask.frPyObjects(flat, height, width))
    mask = CompressedRLEData(size=[height, width], counts=drawn["counts"])
    return mask if rle.area(mask) else None


def _polygons(contour: Any) -> list[list[Point]]:
    if not isinstance(contour, list) or not all(isinstance(each, list) for each in contour):
        raise ElementError("its contour is no list of polygons")
    return [[_point(each) for each in polygon] for polygon in contour]


def _point(point: Any) -> Point:
    if not isinstance(point, dict):
        raise ElementError(f"its contour has {point!r:.60}, which is no point {{x, y}}")
    return _coordinate(point, "x"), _coordinate(point, "y")


def _checked_rle(given: Any, width: int, height: int) -> CompressedRLEData:
    if not isinstance(given, dict) or not {"size", "counts"} <= given.keys():
        raise ElementError("its rle is no object with size and counts")
    counts = given["counts"]
    try:
        if isinstance(counts, list):
            if given["size"] != [height, width]:
                raise ElementError(
                    f"its rle is of size {given['size']!r:.60}, not {[height, width]}"
                )
            return _compressed(counts, width, height)
        mask = CompressedRLEData.from_dict(given)
        rle.check(mask, (height, width))
    except ValueError as error:
        raise ElementError(str(error)) from error
    return mask


def _compressed(counts: list[Any], width: int, height: int) -> CompressedRLEData:
    """Read COCO's uncompressed form: the lengths of the runs, the first one of zeros."""
    from pycocotools import mask as coco_mask

    if not all(type(count) is int and count >= 0 for count in counts):
        raise ElementError("its rle has counts that are no lengths of runs")
    if sum(counts) != width * height:
        raise ElementError(f"its rle covers {sum(counts)} pixels, the image has {width * height}")
    drawn = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return CompressedRLEData(size=[height, width], counts=drawn["counts"])


def _number(values: Mapping[str, Any], key: str) -> float:
    # Called for every number of a million elements, all of which come from JSON.
    number = values.get(key)
    if type(number) is float and math.isfinite(number):
        return number
    if type(number) is int:
        return float(number)
    raise ElementError(f"its {key} is {number!r:.60}, which is no number")


def _coordinate(values: Mapping[str, Any], key: str) -> float:
    return min(max(_number(values, key), -_FAR), _FAR)
