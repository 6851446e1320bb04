"""Images with annotations for the tests of every format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pixano_cli import rle
from pixano_cli.annotations import (
    AnnotatedImage,
    Annotation,
    Box,
    Category,
    annotation_from_element,
    number,
    order,
)

writes_files = settings(deadline=None, max_examples=60)
"""For tests whose every example waits for the disk."""

CATEGORIES = (Category(17, "cat", "animal"), Category(47, "cup"), Category(1, "père Noël"))
PROVENANCE = {"description": "test", "version": "1.2", "parameters": {"threshold": 0.5}}


def image(name: str, *annotations: Annotation, **fields: Any) -> AnnotatedImage:
    facts = {"sha256": "ab" * 32, "width": 64, "height": 48, "orientation": 1, **fields}
    return AnnotatedImage(name, annotations=annotations, **facts)


def boxed(label: str, *corners: float, score: float | None = 0.5) -> Annotation:
    element = {"label": label, "score": score, **dict(zip(Box._fields, corners, strict=True))}
    annotation = annotation_from_element(element, 64, 48)
    assert annotation is not None
    return annotation


def masked(label: str, rows: slice, columns: slice, score: float | None = 0.5) -> Annotation:
    mask = np.zeros((48, 64), dtype=bool)
    mask[rows, columns] = True
    mask[rows.start, columns.start] = False
    element = {"label": label, "score": score, "rle": rle.encode(mask).to_dict()}
    annotation = annotation_from_element(element, 64, 48)
    assert annotation is not None
    return annotation


def numbered(*images: AnnotatedImage) -> list[AnnotatedImage]:
    return [*number(images, CATEGORIES)]


EXAMPLE = (
    image("a b/1.jpg", boxed("cat", 0.1, 0.2, 10.1, 20.3), boxed("cup", 3, 4, 50, 40, score=None)),
    image("empty.png", orientation=6),
    image('naïve "q"\n.jpg', masked("père Noël", slice(5, 20), slice(10, 30), score=0.25)),
)


@st.composite
def _found(draw: st.DrawFn, width: int, height: int) -> Sequence[Annotation]:
    """Elements as the store keeps them (boxes of two decimals, masks), read as annotations."""

    def side() -> st.SearchStrategy[float]:
        return st.integers(-500, 4500).map(lambda hundredths: hundredths / 100)

    annotations = []
    for _ in range(draw(st.integers(0, 4))):
        element: dict[str, Any] = {
            "label": draw(st.sampled_from([each.name for each in CATEGORIES])),
            "score": draw(st.none() | st.integers(0, 10_000).map(lambda score: score / 10_000)),
        }
        if draw(st.booleans()):
            mask = draw(hnp.arrays(np.bool_, (height, width)))
            element["rle"] = rle.encode(mask).to_dict()
        else:
            element |= {name: draw(side()) for name in Box._fields}
        annotation = annotation_from_element(element, width, height)
        if annotation is not None:
            annotations.append(annotation)
    return order(annotations)


@st.composite
def images(draw: st.DrawFn) -> list[AnnotatedImage]:
    """Numbered images, with and without annotations."""
    made = []
    for at in range(draw(st.integers(0, 4))):
        width, height = draw(st.integers(1, 40)), draw(st.integers(1, 40))
        made.append(
            image(
                f"{draw(st.text(max_size=5))}/{at}.jpg",
                *draw(_found(width, height)),
                width=width,
                height=height,
                orientation=draw(st.integers(1, 8)),
            )
        )
    return numbered(*made)
