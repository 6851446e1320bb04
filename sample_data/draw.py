"""Draw the masks and boxes of a COCO file on its images: `draw.py COCO.json IMAGES FOLDER`.

It reads nothing but the COCO file and the images, as any other tool would.
"""

import io
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps
from pycocotools.coco import COCO

COLOURS = [(42, 157, 143), (230, 57, 70), (244, 162, 97), (69, 123, 157), (131, 56, 236)]


def draw(image: Image.Image, annotations: list[dict], names: dict[int, str], coco: COCO) -> None:
    """Draw annotations on an RGB image of their size."""
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=max(14, image.height // 25))
    for index, annotation in enumerate(annotations):
        colour = COLOURS[index % len(COLOURS)]
        if "segmentation" in annotation:
            inside = Image.fromarray(coco.annToMask(annotation) * np.uint8(110))
            image.paste(colour, (0, 0), inside)
        x, y, width, height = annotation["bbox"]
        pen.rectangle((x, y, x + width - 1, y + height - 1), outline=colour, width=3)
        text = f"{names[annotation['category_id']]} {annotation['score']:.2f}"
        left, top, right, bottom = pen.textbbox((x + 6, y + 4), text, font=font)
        pen.rectangle((left - 4, top - 3, right + 4, bottom + 3), fill=colour)
        pen.text((x + 6, y + 4), text, fill="white", font=font)


def main(coco_file: Path, images: Path, folder: Path) -> None:
    """Draw every image of a COCO file into a folder."""
    with redirect_stdout(io.StringIO()):  # pycocotools talks while it loads
        coco = COCO(str(coco_file))
    names = {category["id"]: category["name"] for category in coco.dataset["categories"]}
    for entry in coco.dataset["images"]:
        with Image.open(images / entry["file_name"]) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
        draw(image, coco.imgToAnns[entry["id"]], names, coco)
        target = (folder / entry["file_name"]).with_suffix(".jpg")
        target.parent.mkdir(parents=True, exist_ok=True)
        image.save(target, quality=90)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
