"""Reading COCO files the way their users do."""

import contextlib
import io
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO


def read(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def by_photograph(path: Path) -> dict[str, list[str]]:
    """Return the labels of each image of a COCO file."""
    coco = read(path)
    names = {each["id"]: each["name"] for each in coco.dataset["categories"]}
    return {
        image["file_name"]: [names[each["category_id"]] for each in coco.imgToAnns[image["id"]]]
        for image in coco.dataset["images"]
    }


def masks_of(path: Path, file_name: str) -> dict[str, np.ndarray]:
    coco = read(path)
    names = {each["id"]: each["name"] for each in coco.dataset["categories"]}
    (image,) = (each for each in coco.dataset["images"] if each["file_name"] == file_name)
    return {
        names[each["category_id"]]: coco.annToMask(each) for each in coco.imgToAnns[image["id"]]
    }
