"""Models of the tests' own for a real Pixano Inference server: a plugin, run in its processes.

It works with 0.6 and with 0.7. Some models are so small that their answers can be worked out; the
others are this project's own, so that a server's answers can be held against local ones.
"""

# mypy: ignore-errors

import time
import zlib
from pathlib import Path

import numpy as np
from pixano_inference.models import (
    DetectionModel,
    DetectionOutput,
    EmbeddingModel,
    EmbeddingOutput,
    SegmentationModel,
    SegmentationOutput,
    TrackingModel,
    TrackingOutput,
    VLMModel,
    VLMOutput,
    register_model,
)
from pixano_inference.schemas.nd_array import NDArrayFloat
from pixano_inference.schemas.rle import CompressedRLE
from pixano_inference.utils.media import convert_string_to_image

try:
    from pixano_inference.models import (
        DetectionInterface,
        EmbeddingInterface,
        SegmentationInterface,
        TrackingInterface,
    )
    from pixano_inference.models.tracking import TrackedFrame, TrackedObject
except ImportError:
    TrackedFrame = None


def pixels(image):
    """Return an image as the server reads it."""
    return np.array(convert_string_to_image(image))


def vectors(found):
    return EmbeddingOutput(embeddings=NDArrayFloat.from_numpy(found), dim=found.shape[1])


def tracked(masks):
    """Return masks by (frame, object) in the form of this server's version."""
    if TrackedFrame is None:
        return TrackingOutput(
            objects_ids=[object_id for _, object_id in masks],
            frame_indexes=[frame for frame, _ in masks],
            masks=[CompressedRLE.from_mask(mask) for mask in masks.values()],
        )
    frames = {}
    for (frame, object_id), mask in masks.items():
        found = TrackedObject(track_id=object_id, mask=CompressedRLE.from_mask(mask))
        frames.setdefault(frame, []).append(found)
    return TrackingOutput(
        frames=[TrackedFrame(frame_index=frame, objects=each) for frame, each in frames.items()]
    )


def local_model(module, class_name, name, capability):
    """Load a model of this project's."""
    import importlib

    from pixano_cli.models.base import ModelDeploymentConfig

    made = getattr(importlib.import_module(f"pixano_cli.models.{module}"), class_name)(
        ModelDeploymentConfig(name=name, capability=capability, model_class=name)
    )
    made.load_model()
    return made


@register_model("quarters")
class Quarters(EmbeddingModel):
    """Mean colour of each quarter of an image; of length 1 only if that is asked for."""

    @property
    def interface(self):
        return EmbeddingInterface(modalities=["image"], dim=12)

    def load_model(self):
        pass

    def predict(self, asked):
        image = pixels(asked.image).astype(np.float64)
        height, width = (side // 2 * 2 for side in image.shape[:2])
        parts = image[:height, :width].reshape(2, height // 2, 2, width // 2, 3)
        vector = parts.mean(axis=(1, 3)).reshape(1, -1)
        return vectors(vector / np.linalg.norm(vector) if asked.normalize else vector)


@register_model("ours")
class Ours(EmbeddingModel):
    """This project's own embedding model, behind a server."""

    @property
    def interface(self):
        return EmbeddingInterface(modalities=["image"])

    def load_model(self):
        self.model = local_model("pplcnet", "PPLCNetV2", "pplcnetv2", "embedding")

    def predict(self, asked):
        from pixano_cli.models.embedding import EmbeddingInput

        image = EmbeddingInput(image=pixels(asked.image), normalize=asked.normalize)
        return vectors(self.model.predict(image).embeddings)


@register_model("nothing")
class Nothing(DetectionModel):
    """Finds nothing; what it is asked for is in its class names' place nowhere."""

    def load_model(self):
        pass

    def predict(self, asked):
        return DetectionOutput(boxes=[], scores=[], classes=[])


@register_model("picodet")
class Picodet(DetectionModel):
    """The embedded detector, with an image decoded as it is locally."""

    @property
    def interface(self):
        from pixano_cli.models.coco_classes import COCO_CATEGORIES

        return DetectionInterface(
            classes="closed",
            class_names=[category.name for category in COCO_CATEGORIES],
            thresholds=["box"],
            outputs=["box", "score", "class"],
        )

    def load_model(self):
        self.model = local_model("picodet", "PicoDet", "picodet-s-416", "detection")

    def predict(self, asked):
        from pixano_cli.media.decode import decode_image
        from pixano_cli.media.flight import read_url
        from pixano_cli.media.identity import probe
        from pixano_cli.models.detection import DetectionInput

        assert asked.classes is None, asked.classes
        data = read_url(asked.image)
        image = decode_image(data, min_size=self.model.input_size)
        whole = probe(data)
        scale = (whole.width / image.shape[1], whole.height / image.shape[0]) * 2
        found = self.model.predict(DetectionInput(image=image, box_threshold=asked.box_threshold))
        boxes = [
            [round(round(value * by, 2)) for value, by in zip(box, scale, strict=True)]
            for box in found.boxes
        ]
        return DetectionOutput(boxes=boxes, scores=found.scores, classes=found.classes)


@register_model("mobile_sam")
class MobileSam(SegmentationModel):
    """The embedded segmenter."""

    @property
    def interface(self):
        return SegmentationInterface(
            prompts=["points", "box"], multimask=True, embeddings=True, outputs=["mask", "score"]
        )

    def load_model(self):
        self.model = local_model("mobile_sam", "MobileSam", "mobile-sam", "segmentation")

    def predict(self, asked):
        from pixano_cli.models.segmentation import SegmentationInput

        given = asked.image_embedding
        found = self.model.predict(
            SegmentationInput(
                image=pixels(asked.image),
                image_embedding=None if given is None else given.to_numpy(),
                points=asked.points,
                labels=asked.labels,
                boxes=asked.boxes,
                num_multimask_outputs=asked.num_multimask_outputs,
                multimask_output=asked.multimask_output,
                return_image_embedding=asked.return_image_embedding,
            )
        )
        made = found.image_embedding
        return SegmentationOutput(
            masks=[[CompressedRLE(**mask.to_dict()) for mask in masks] for masks in found.masks],
            scores=NDArrayFloat.from_numpy(found.scores),
            image_embedding=None
            if made is None or not asked.return_image_embedding
            else NDArrayFloat.from_numpy(made),
        )


@register_model("squares")
class Squares(TrackingModel):
    """Follows what has the colour in the middle of the box, or under the mask, of its keyframe.

    It can take its time, and leave a line in a file for each frame that it is given.
    """

    @property
    def interface(self):
        return TrackingInterface(prompts=["box", "mask", "points"], outputs=["mask"])

    def load_model(self):
        self.seconds = self.config.model_params.get("seconds", 0.0)
        self.log = self.config.model_params.get("log")

    def predict(self, asked):
        assert asked.propagate
        frames = [pixels(frame) for frame in asked.video]
        if self.log:
            with Path(self.log).open("a") as log:
                log.writelines(f"{zlib.crc32(frame.tobytes())}\n" for frame in frames)
        time.sleep(self.seconds)
        masks = {}
        for object_id, index, keyframe in zip(
            asked.objects_ids, asked.frame_indexes, asked.keyframes, strict=True
        ):
            assert index == keyframe.frame_index
            colour = self.colour(frames[index], keyframe)
            for place in range(index, len(frames)):
                mask = (frames[place] == colour).all(axis=-1)
                masks[place, object_id] = np.asfortranarray(mask, dtype=np.uint8)
        return tracked(masks)

    def colour(self, frame, keyframe):
        if keyframe.mask is not None:
            return frame[keyframe.mask.to_mask().astype(bool)][0]
        if keyframe.points:
            return frame[keyframe.points[0].y, keyframe.points[0].x]
        box = keyframe.box
        return frame[box.y + box.height // 2, box.x + box.width // 2]


@register_model("follower")
class Follower(TrackingModel):
    """The embedded segmenter, frame by frame: each mask's box prompts the next frame."""

    @property
    def interface(self):
        return TrackingInterface(prompts=["box", "mask"], outputs=["mask"])

    def load_model(self):
        self.model = local_model("mobile_sam", "MobileSam", "mobile-sam", "segmentation")

    def predict(self, asked):
        from pixano_cli import rle
        from pixano_cli.models.segmentation import SegmentationInput

        frames = [pixels(frame) for frame in asked.video]
        masks = {}
        for object_id, keyframe in zip(asked.objects_ids, asked.keyframes, strict=True):
            if keyframe.mask is not None:
                mask = keyframe.mask
                box = rle.bounding_box(rle.CompressedRLEData(mask.size, mask.counts))
            else:
                x, y = keyframe.box.x, keyframe.box.y
                box = (x, y, x + keyframe.box.width, y + keyframe.box.height)
            for place in range(keyframe.frame_index, len(frames)):
                found = self.model.predict(
                    SegmentationInput(
                        image=frames[place], boxes=[list(box)], multimask_output=False
                    )
                )
                mask = found.masks[0][0]
                masks[place, object_id] = np.asfortranarray(rle.decode(mask), dtype=np.uint8)
                if rle.area(mask):
                    box = rle.bounding_box(mask)
        return tracked(masks)


@register_model("echo")
class Echo(VLMModel):
    """Says what it was asked, and the size of each picture."""

    def load_model(self):
        pass

    def predict(self, asked):
        assert asked.images is None
        said = []
        for message in asked.prompt:
            for part in message["content"]:
                if part["type"] == "text":
                    said.append(part["text"])
                else:
                    image = pixels(part["image_url"]["url"])
                    said.append(f"{image.shape[1]}x{image.shape[0]}")
        text = " ".join(said)
        return VLMOutput(
            generated_text=text,
            usage={"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
            generation_config={"temperature": asked.temperature, "max": asked.max_new_tokens},
        )
