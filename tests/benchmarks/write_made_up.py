"""`write_made_up.py FORMAT FILE ANNOTATIONS`: write made-up annotations with a format's writer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from made_up import HEIGHT, SHOWN, WIDTH, elements

from pixano_cli import formats
from pixano_cli.annotations import AnnotatedImage, annotation_from_element, number, order
from pixano_cli.models.coco_classes import COCO_CATEGORIES


def images(count: int) -> Iterator[AnnotatedImage]:
    """Yield annotated images with `count` annotations in all."""
    for index in range(count // SHOWN):
        shown = [each for each in elements(index) if each["score"] >= 0.5]
        found = [annotation_from_element(each, WIDTH, HEIGHT) for each in shown]
        yield AnnotatedImage(
            f"{index // 1000:03}/{index:06}.jpg",
            f"{index:064x}",
            WIDTH,
            HEIGHT,
            1,
            order(each for each in found if each is not None),
        )


def main(name: str, file: str, count: str) -> None:
    """Write them."""
    numbered = number(images(int(count)), COCO_CATEGORIES)
    formats.write(name, numbered, Path(file), COCO_CATEGORIES, {"version": "made up"})


if __name__ == "__main__":
    main(*sys.argv[1:])
