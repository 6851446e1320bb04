"""Objects followed through a video by SAM 2, one frame at a time.

The masks are those of sam2's own `SAM2VideoPredictor`, which is given the whole video, all prompts
of points and boxes (`add_new_points_or_box`) and of masks (`add_new_mask`), and then propagates
them forward; the steps are its steps, on memory that is dropped once attention cannot read it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pixano_cli.models.base import RGBImage
from pixano_cli.models.sam2 import masks, prompts
from pixano_cli.models.sam2.features import FrameFeatures, encode
from pixano_cli.models.sam2.memory import Found, Memory, ObjectMemory, Prompted, Reach
from pixano_cli.models.sam2.networks import Network
from pixano_cli.models.sam2.prompts import MaskPrompt, PointPrompt
from pixano_cli.models.tracking import ObjectMask, ObjectPrompt, TrackingSession

# Most objects in one batch: keeps what a batch takes on a GPU within a few GB.
_BATCH = 16
# sam2 reads fewer pointers from a video shorter than this many frames; any video of unknown length
# is taken to be longer.
_ENDLESS = 2**31


@dataclass(frozen=True, slots=True)
class Video:
    """What a session knows of its video from the beginning.

    Attributes:
        width: Width of every frame.
        height: Height of every frame.
        length: Number of frames; None if it is not known.
    """

    width: int
    height: int
    length: int | None = None


@dataclass(slots=True)
class Progress:
    """All that changes in a session.

    Attributes:
        objects: What is remembered, by object, in the order they were first prompted.
        last: The frame that was stepped to last; None before the first one.
    """

    objects: dict[int, ObjectMemory]
    last: int | None = None


class Sam2Session(TrackingSession):
    """Objects followed through one video.

    A prompt of points for an object that was prompted in the same frame before adds to its points
    (`clear_old_points=False`); one with a box, or a mask, starts over. In both cases the mask
    found before goes in with the new points, as in sam2.
    """

    def __init__(
        self, network: Network, video: Video, digest: str, progress: Progress | None = None
    ) -> None:
        """Begin, or go on from `progress`; `digest` is that of the model, for the state."""
        self._network: Network | None = network
        self._video = video
        self._digest = digest
        self._progress = progress or Progress({})
        self._reach = Reach.of(network.model)
        self._encoded: tuple[int, FrameFeatures] | None = None
        with network.running():
            self._position = _memory_position(network)
        # On a CPU a batch is no faster, and alone every object is as sam2 itself computes it. Where
        # masks shall not overlap in memory, sam2 leaves that to batches, of which it makes none.
        batches = network.device.type != "cpu" and not network.model.non_overlap_masks_for_mem_enc
        self._batch = _BATCH if batches else 1

    def condition(
        self, frame: int, image: RGBImage, prompts: Sequence[ObjectPrompt]
    ) -> Mapping[int, ObjectMask]:
        """Prompt objects in a frame that was not stepped through; see `TrackingSession`.

        In the frame that was stepped to last, objects can be prompted that are new there.

        Raises:
            ValueError: If a prompt, the frame or its number cannot be used; nothing is changed.
        """
        network = self._open_network()
        self._check_image(image)
        self._check_prompts(frame, prompts)
        if not prompts:
            return {}
        with network.running():
            touched: dict[int, Tensor] = {}
            for prompt in prompts:
                touched[prompt.object_id] = self._prompt(frame, image, prompt)
            for object_id, appearance in touched.items():
                self._remember_prompted(frame, image, object_id, appearance)
            return self._answers(
                {each: self._progress.objects[each].prompted[frame].found for each in touched}
            )

    def step(self, frame: int, image: RGBImage) -> Mapping[int, ObjectMask]:
        """Go on to the next frame; see `TrackingSession`.

        Where all objects are prompted in this frame nothing is run.

        Raises:
            ValueError: If it is not the next frame, or not of the video's size; nothing is changed.
        """
        network = self._open_network()
        self._check_image(image)
        last, objects = self._progress.last, self._progress.objects
        if frame < 0 or (last is not None and frame != last + 1):
            raise ValueError(f"frame {frame} is not the one after frame {last}")
        found: dict[int, Found] = {}
        with network.running():
            for group in self._groups(frame):
                found.update(self._track(frame, image, group))
            for object_id, memory in objects.items():
                if frame in memory.conditioning:
                    found[object_id] = memory.prompted[frame].found
            answers = self._answers({each: found[each] for each in objects})
        self._progress.last = frame
        for memory in objects.values():
            memory.drop(frame, self._reach)
        return answers

    def forget(self, objects: Collection[int]) -> None:
        """Follow these objects no more; one that is not followed is passed over."""
        for object_id in objects:
            self._progress.objects.pop(object_id, None)

    def state(self) -> bytes:
        """Return all that is needed to go on after the frame that was stepped to last."""
        from pixano_cli.models.sam2.state import dump

        self._open_network()
        return dump(self._progress, self._video, self._digest)

    def close(self) -> None:
        """Free what the session holds; it cannot be used any more."""
        self._progress = Progress({})
        self._network = self._encoded = None

    def _open_network(self) -> Network:
        if self._network is None:
            raise ValueError("the session is closed")
        return self._network

    def _check_image(self, image: RGBImage) -> None:
        expected = (self._video.height, self._video.width, 3)
        if image.shape != expected or image.dtype != np.uint8:
            raise ValueError(
                f"a frame must be pixels {list(expected)}, uint8, as the video's first one; this "
                f"one is {list(image.shape)}, {image.dtype}"
            )

    def _check_prompts(self, frame: int, given: Sequence[ObjectPrompt]) -> None:
        last = self._progress.last
        if frame < 0 or (last is not None and frame < last):
            raise ValueError(f"frame {frame} cannot be prompted: frame {last} was reached already")
        for prompt in given:
            prompts.check(prompt, self._video.width, self._video.height)
            known = self._progress.objects.get(prompt.object_id)
            if known is not None and frame == last and frame not in known.prompted:
                raise ValueError(
                    f"object {prompt.object_id} was followed through frame {frame} already: "
                    "correct it in a later frame"
                )

    def _features(self, frame: int, image: RGBImage) -> FrameFeatures:
        if self._encoded is None or self._encoded[0] != frame:
            self._encoded = None
            self._encoded = frame, encode(self._open_network(), image)
        return self._encoded[1]

    def _prompt(self, frame: int, image: RGBImage, prompt: ObjectPrompt) -> Tensor:
        """Find one object by one prompt; return the logit of its being there, [1, 1]."""
        network = self._open_network()
        memory = self._progress.objects.setdefault(prompt.object_id, ObjectMemory())
        before = memory.prompted.get(frame)
        given = prompts.read(
            prompt,
            self._video.width,
            self._video.height,
            network.model.image_size,
            network.device,
        )
        if isinstance(given, MaskPrompt):
            points, labels, former = None, None, None
        else:
            points, labels = _joined(given, before)
            former = None if before is None else before.found.logits.clamp(-32.0, 32.0)
        output = self._run(
            frame,
            self._features(frame, image),
            is_init_cond_frame=True,
            point_inputs=(
                None if points is None else {"point_coords": points, "point_labels": labels}
            ),
            mask_inputs=given.mask if isinstance(given, MaskPrompt) else None,
            output_dict={"cond_frame_outputs": {}, "non_cond_frame_outputs": {}},
            run_mem_encoder=False,
            prev_sam_mask_logits=former,
        )
        appearance: Tensor = output["object_score_logits"]
        logits = _filled(output["pred_masks"], network.model)
        found = Found(logits, self._scores(appearance)[0])
        memory.prompted[frame] = Prompted(found, points, labels)
        # Its features follow when all prompts of the frame are in; its place in the order is here.
        memory.conditioning[frame] = Memory(None, output["obj_ptr"])
        return appearance

    def _remember_prompted(
        self, frame: int, image: RGBImage, object_id: int, appearance: Tensor
    ) -> None:
        model = self._open_network().model
        memory = self._progress.objects[object_id]
        features = self._features(frame, image)
        encoded, _ = model._encode_new_memory(
            current_vision_feats=features.features,
            feat_sizes=features.sizes,
            pred_masks_high_res=torch.nn.functional.interpolate(
                memory.prompted[frame].found.logits,
                size=(model.image_size, model.image_size),
                mode="bilinear",
                align_corners=False,
            ),
            object_score_logits=appearance,
            is_mask_from_pts=True,
        )
        memory.conditioning[frame].features = encoded.to(torch.bfloat16)

    def _groups(self, frame: int) -> Iterator[list[int]]:
        """Divide the objects that are to be tracked in a frame into batches."""
        by_layout: dict[object, list[int]] = {}
        for object_id, memory in self._progress.objects.items():
            if frame not in memory.conditioning:
                by_layout.setdefault(memory.layout, []).append(object_id)
        for group in by_layout.values():
            for start in range(0, len(group), self._batch):
                yield group[start : start + self._batch]

    def _track(self, frame: int, image: RGBImage, group: list[int]) -> dict[int, Found]:
        """Find objects of one layout in a frame by what is remembered of them."""
        memories = [self._progress.objects[each] for each in group]
        output = self._run(
            frame,
            self._features(frame, image).repeated(len(group)),
            is_init_cond_frame=False,
            point_inputs=None,
            mask_inputs=None,
            output_dict={
                "cond_frame_outputs": self._stacked([each.conditioning for each in memories]),
                "non_cond_frame_outputs": self._stacked([each.tracked for each in memories]),
            },
            run_mem_encoder=True,
            prev_sam_mask_logits=None,
        )
        features = output["maskmem_features"]
        if features is not None:
            features = features.to(torch.bfloat16)
        logits = _filled(output["pred_masks"], self._open_network().model)
        scores = self._scores(output["object_score_logits"])
        for index, memory in enumerate(memories):
            memory.tracked[frame] = Memory(
                None if features is None else _own(features, index),
                _own(output["obj_ptr"], index),
            )
        return {
            each: Found(logits[index : index + 1], scores[index])
            for index, each in enumerate(group)
        }

    def _stacked(self, memories: list[dict[int, Memory]]) -> dict[int, dict[str, Any]]:
        """Return the outputs of the frames that these objects share, as `track_step` takes them."""
        stacked = {}
        for frame in memories[0]:
            frames = [each[frame] for each in memories]
            features = [each.features for each in frames if each.features is not None]
            stacked[frame] = {
                "maskmem_features": self._in_working_type(features),
                "maskmem_pos_enc": [self._position.expand(len(frames), -1, -1, -1)],
                "obj_ptr": _batched([each.pointer for each in frames]),
            }
        return stacked

    def _in_working_type(self, features: list[Tensor]) -> Tensor | None:
        if not features:
            return None
        # Where nothing casts by itself, memory of bfloat16 alone, with no pointer to raise it to
        # float32, would not fit the weights: sam2 1.1 fails there, before an object's first prompt.
        is_cast = self._open_network().device.type == "cuda"
        return _batched(features).to(torch.bfloat16 if is_cast else torch.float32)

    def _run(self, frame: int, features: FrameFeatures, **inputs: Any) -> dict[str, Any]:
        network = self._open_network()
        with network.first_attention.of_frame(features.first_attention):
            output: dict[str, Any] = network.model.track_step(
                frame_idx=frame,
                current_vision_feats=features.features,
                current_vision_pos_embeds=features.positions,
                feat_sizes=features.sizes,
                num_frames=self._video.length or _ENDLESS,
                track_in_reverse=False,
                **inputs,
            )
        return output

    def _answers(self, found: Mapping[int, Found]) -> dict[int, ObjectMask]:
        shown = masks.shown(
            {each: item.logits for each, item in found.items()},
            self._video.width,
            self._video.height,
            self._open_network().model,
        )
        return {each: ObjectMask(shown[each], item.score) for each, item in found.items()}

    def _scores(self, appearance: Tensor) -> list[float | None]:
        if not self._open_network().model.pred_obj_scores:
            return [None] * len(appearance)
        return [round(score, 5) for score in appearance.float().sigmoid()[:, 0].tolist()]


def _joined(given: PointPrompt, before: Prompted | None) -> tuple[Tensor, Tensor]:
    if given.starts_over or before is None or before.points is None or before.labels is None:
        return given.points, given.labels
    return (
        torch.cat([before.points, given.points], dim=1),
        torch.cat([before.labels, given.labels], dim=1),
    )


def _memory_position(network: Network) -> Tensor:
    """Return the position encoding of remembered masks, the same for all: [1, channels, h, w]."""
    model = network.model
    side = model.sam_image_embedding_size
    shape = (1, model.mem_dim, side, side)
    position: Tensor = model.memory_encoder.position_encoding(
        torch.empty(shape, device=network.device)
    )
    # Under autocast the memory encoder works in bfloat16, and so does what goes with its output.
    return position.to(torch.bfloat16 if network.device.type == "cuda" else torch.float32)


def _filled(logits: Tensor, model: Any) -> Tensor:
    if model.fill_hole_area <= 0 or not logits.is_cuda or not _can_fill():
        return logits
    from sam2.utils.misc import fill_holes_in_mask_scores

    filled: Tensor = fill_holes_in_mask_scores(logits, model.fill_hole_area)
    return filled


@cache
def _can_fill() -> bool:
    """Tell whether sam2's CUDA extension is there, without which sam2 leaves holes as they are."""
    return find_spec("sam2._C") is not None


def _own(batch: Tensor, index: int) -> Tensor:
    """Return one object's part, which keeps nothing of the others alive."""
    return batch if len(batch) == 1 else batch[index : index + 1].clone()


def _batched(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
