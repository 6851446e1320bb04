"""A provider of the tests' own for a real Pixano Inference 0.5: every process of it imports this.

It is put on the path as `sitecustomize`, since that generation finds no providers by itself; and
it stands in for torch, which the server wants to be there and none of these models needs.
"""

# mypy: ignore-errors

import importlib.machinery
import os
import sys
import types


class Device:
    """A name of a device."""

    def __init__(self, name):
        self.name = name


def stand_in():
    """Let `import torch` find what the server asks of it."""
    torch = types.ModuleType("torch")
    torch.__spec__ = importlib.machinery.ModuleSpec("torch", None)
    torch.__version__ = "0"
    torch.device = Device
    torch.Tensor = type("Tensor", (), {})
    torch.cuda = types.SimpleNamespace(is_available=lambda: False, device_count=lambda: 0)
    sys.modules["torch"] = torch


def register():
    """Register the provider `own`."""
    import numpy as np
    from pixano_inference.models.base import BaseInferenceModel
    from pixano_inference.providers.base import ModelProvider
    from pixano_inference.providers.registry import register_provider
    from pixano_inference.pydantic import (
        CompressedRLE,
        ImageMaskGenerationOutput,
        ImageZeroShotDetectionOutput,
        NDArrayFloat,
        VideoMaskGenerationOutput,
    )
    from pixano_inference.utils.media import convert_string_to_image

    def pixels(image):
        return np.array(convert_string_to_image(image))

    def local_model(module, class_name, name, capability):
        import importlib

        from pixano_cli.models.base import ModelDeploymentConfig

        made = getattr(importlib.import_module(f"pixano_cli.models.{module}"), class_name)(
            ModelDeploymentConfig(name=name, capability=capability, model_class=name)
        )
        made.load_model()
        return made

    class Model(BaseInferenceModel):
        """A model of this project's, or a tracker of colours."""

        def __init__(self, name, task):
            super().__init__(name, "own")
            self.model = None
            if task == "image_zero_shot_detection":
                self.model = local_model("picodet", "PicoDet", "picodet-s-416", "detection")
            elif task == "image_mask_generation":
                self.model = local_model("mobile_sam", "MobileSam", "mobile-sam", "segmentation")

        @property
        def metadata(self):
            return {"name": self.name}

        def delete(self):
            self.model = None

    @register_provider("own")
    class Own(ModelProvider):
        """Loads what the task says."""

        def load_model(self, name, task, device, path=None, processor_config=None, config=None):
            if path == "broken":
                raise ValueError("broken weights")
            return Model(name, task)

        def image_zero_shot_detection(self, request, model):
            from pixano_cli.media.decode import decode_image
            from pixano_cli.media.flight import read_url
            from pixano_cli.media.identity import probe
            from pixano_cli.models.detection import DetectionInput

            data = read_url(request.image)
            image = decode_image(data, min_size=model.model.input_size)
            whole = probe(data)
            scale = (whole.width / image.shape[1], whole.height / image.shape[0]) * 2
            asked = DetectionInput(image=image, box_threshold=request.box_threshold)
            found = model.model.predict(asked)
            return ImageZeroShotDetectionOutput(
                boxes=[
                    [round(round(value * by, 2)) for value, by in zip(box, scale, strict=True)]
                    for box in found.boxes
                ],
                scores=found.scores,
                classes=found.classes,
            )

        def image_mask_generation(self, request, model):
            from pixano_cli.models.segmentation import SegmentationInput

            found = model.model.predict(
                SegmentationInput(
                    image=pixels(request.image),
                    points=request.points,
                    labels=request.labels,
                    boxes=request.boxes,
                    multimask_output=request.multimask_output,
                )
            )
            return ImageMaskGenerationOutput(
                masks=[[CompressedRLE(**mask.to_dict()) for mask in each] for each in found.masks],
                scores=NDArrayFloat.from_numpy(found.scores),
            )

        def video_mask_generation(self, request, model):
            frames = [pixels(frame) for frame in request.video]
            found = []
            for place, (number, index) in enumerate(
                zip(request.objects_ids, request.frame_indexes, strict=True)
            ):
                x1, y1, x2, y2 = request.boxes[place]
                colour = frames[index][(y1 + y2) // 2, (x1 + x2) // 2]
                for later in range(index, len(frames)):
                    mask = (frames[later] == colour).all(axis=-1)
                    found.append((number, later, np.asfortranarray(mask, dtype=np.uint8)))
            return VideoMaskGenerationOutput(
                objects_ids=[number for number, _, _ in found],
                frame_indexes=[index for _, index, _ in found],
                masks=[CompressedRLE.from_mask(mask) for _, _, mask in found],
            )


# Also the programs that pip and the tests run come here; only the server's own say that they do.
if os.environ.get("TESTS_OWN_PROVIDER"):
    stand_in()
    register()
