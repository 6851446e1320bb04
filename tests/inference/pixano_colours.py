"""Models that see colours, for the tests' own Pixano Inference server.

What they answer follows from the picture, so that nothing is right by accident. What they do not
expect they refuse, as the real ones do.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixano_cli import rle

Pixels = NDArray[np.uint8]
Body = dict[str, Any]

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
"""What the models know."""


class RefusedError(Exception):
    """A request that is refused, with a status and words."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


class Colours:
    """The models, in the dialect of a generation."""

    generation: int

    def detect(self, body: Body) -> Body:
        pixels = picture(body["image"])
        if body["model"] == "colours":
            # It has its own classes, and takes no notice of those that are asked for.
            if self.generation <= 2 and not isinstance(body["classes"], list):
                raise RefusedError(422, "classes: Input should be a valid list")
            found = [(name, name) for name in COLOURS]
        else:
            text = body["classes"]
            if not isinstance(text, str) or text != text.lower() or text[-1] != ".":
                raise RefusedError(400, "one text of small letters is wanted")
            # It answers in pieces: "light red" as "red", both as "red blue", and one not at all.
            words = {"red": "red", "green": "green red", "blue": ""}
            found = [(name, words[name]) for name in COLOURS if name in text]
        boxes, masks, labels = [], [], []
        for colour, label in found:
            mask = (pixels == COLOURS[colour]).all(axis=-1)
            if mask.any():
                x1, y1, x2, y2 = rle.bounding_box(rle.encode(mask))
                boxes.append([int(x1), int(y1), int(x2), int(y2)])
                masks.append(rle.encode(mask).to_dict())
                labels.append(label)
        answer: Body = {"boxes": boxes, "scores": [0.75] * len(boxes), "classes": labels}
        return answer if self.generation <= 2 else {**answer, "masks": masks}

    def segment(self, body: Body) -> Body:
        pixels = picture(body["image"])
        if body["multimask_output"] and body["num_multimask_outputs"] != 3:
            raise RefusedError(400, "num_multimask_outputs must be 3")
        boxes, points = body["boxes"], body["points"]
        masks = []
        for place in range(len(boxes or points)):
            mask = np.zeros(pixels.shape[:2], np.bool_)
            if boxes:
                x1, y1, x2, y2 = whole(boxes[place])
                mask[y1:y2, x1:x2] = True
            for x, y in points[place] if points else ():
                whole((x, y))
                mask[y, x] = True
            masks.append([rle.encode(mask).to_dict()] * (3 if body["multimask_output"] else 1))
        scores = np.float32([[0.5, 0.9, 0.7][: len(each)] for each in masks])
        answer = {"masks": masks, "scores": self.array(scores)}
        if body["return_image_embedding"]:
            made = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
            answer |= {self._name("image_embedding"): self.array(made)}
        if body.get("image_embedding"):
            assert body["image_embedding"] == self.array(
                np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
            )
        return answer

    def track(self, body: Body) -> Body:
        frames = [picture(frame) for frame in body["video"]]
        found = []
        for place, (object_id, index) in enumerate(
            zip(body["objects_ids"], body["frame_indexes"], strict=True)
        ):
            frame = frames[index]
            mask = self._prompt(body, place, index, frame)
            colour = np.median(frame[mask].reshape(-1, 3), axis=0)
            for later in range(index, len(frames)):
                seen = (frames[later] == colour).all(axis=-1)
                found.append((object_id, later, rle.encode(seen).to_dict()))
        if self.generation == 5:
            return {
                "frames": [
                    {
                        "frameIndex": index,
                        "objects": [
                            {"trackId": object_id, "box": None, "mask": mask}
                            for object_id, at, mask in found
                            if at == index
                        ],
                    }
                    for index in range(len(frames))
                ]
            }
        return {
            self._name("objects_ids"): [object_id for object_id, _, _ in found],
            self._name("frame_indexes"): [index for _, index, _ in found],
            "masks": [mask for _, _, mask in found],
        }

    def _prompt(self, body: Body, place: int, index: int, frame: Pixels) -> NDArray[np.bool_]:
        mask = np.zeros(frame.shape[:2], np.bool_)
        if self.generation >= 4:
            assert not body.keys() & {"boxes", "points", "labels"}
            keyframe = body["keyframes"][place]
            assert keyframe["frameIndex"] == index
            prompts = keyframe["prompts"]
            if "mask" in prompts:
                assert [*prompts] == ["mask"]
                return rle.decode(rle.CompressedRLEData.from_dict(prompts["mask"]))
            if "box" in prompts:
                box = prompts["box"]
                x, y, width, height = whole([box[name] for name in ("x", "y", "width", "height")])
                mask[y : y + height, x : x + width] = True
            for point in prompts.get("points", ()):
                assert point["label"] == 1
                mask[tuple(whole((point["y"], point["x"])))] = True
            return mask
        assert "keyframes" not in body
        if body["boxes"]:
            x1, y1, x2, y2 = whole(body["boxes"][place])
            mask[y1:y2, x1:x2] = True
        if body["points"]:
            for x, y in body["points"][place]:
                mask[tuple(whole((y, x)))] = True
        return mask

    def say(self, body: Body) -> Body:
        if body["images"] is not None:
            raise RefusedError(400, "images are wanted in the messages")
        said = []
        for message in body["prompt"]:
            for part in message["content"]:
                if part["type"] == "text":
                    said.append(part["text"])
                else:
                    shape = picture(part["image_url"]["url"]).shape
                    said.append(f"{shape[1]}x{shape[0]}")
        usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        if self.generation >= 4:
            usage = {"promptTokens": 3, "completionTokens": 4, "totalTokens": 7}
        told = {"max_new_tokens": body["max_new_tokens"], "temperature": body["temperature"]}
        return {
            self._name("generated_text"): " ".join(said),
            "usage": usage,
            self._name("generation_config"): told,
        }

    def _name(self, name: str) -> str:
        if self.generation <= 3:
            return name
        first, *others = name.split("_")
        return first + "".join(each.title() for each in others)

    def array(self, array: NDArray[np.float32]) -> Body:
        """Return an array as this generation writes it."""
        if self.generation <= 3:
            return {"values": array.ravel().tolist(), "shape": list(array.shape)}
        data = base64.b64encode(array.tobytes()).decode()
        return {"shape": list(array.shape), "dtype": "float32", "data": data}


def whole(numbers: Any) -> list[int]:
    """Return numbers, all of which have to be integers."""
    if not all(type(number) is int for number in numbers):
        raise RefusedError(422, "Input should be a valid integer")
    return [*numbers]


def picture(url: str) -> Pixels:
    """Return the pixels of a data URL; bare base64 is refused, and orientation not looked at."""
    kind, _, data = url.partition(";base64,")
    if kind not in ("data:image/jpeg", "data:image/png", "data:image/webp"):
        raise RefusedError(400, "The image is not a valid path, URL or base64 string.")
    return np.array(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
