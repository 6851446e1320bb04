"""SAM 2.1 as a tracker: the models by name, for `segment-video`.

This module is imported to find the models; torch and sam2 are loaded with a model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pixano_cli.models.base import RGBImage, register_model
from pixano_cli.models.sam2.checkpoints import BASE_PLUS, LARGE, SMALL, TINY
from pixano_cli.models.sam2.loaded import Sam2Weights, card_of
from pixano_cli.models.tracking import (
    ObjectPrompt,
    StreamingTrackingModel,
    TrackingInput,
    TrackingOutput,
    TrackingSession,
)

_USE = "objects followed through a video"


class Sam2Video(Sam2Weights, StreamingTrackingModel):
    """Tracker by prompts, frame by frame, in memory that does not grow with the video.

    Its parameters are those of `Sam2Weights`.
    """

    def open_session(
        self, width: int, height: int, state: bytes | None = None, *, length: int | None = None
    ) -> TrackingSession:
        """Begin with a video of this size, or go on with one from a session's state.

        Args:
            width: Width of the frames.
            height: Height of the frames.
            state: What `TrackingSession.state` gave.
            length: Number of frames that will be followed, counted from frame 0. It makes a
                difference for videos of fewer than 16 frames only, in which SAM 2 reads fewer
                of an object's pointers; without it a video is taken to be longer.

        Raises:
            RuntimeError: If the model is not loaded.
            ModelError: If the state is damaged, or not one of this model and a video of this size.
        """
        from pixano_cli.models.sam2.session import Sam2Session, Video
        from pixano_cli.models.sam2.state import restore

        network = self._loaded()
        video = Video(width, height, length)
        progress = None
        if state is not None:
            progress = restore(state, video, self.digest, network.device)
        return Sam2Session(network, video, self.digest, progress)

    def predict(self, input: TrackingInput) -> TrackingOutput:  # noqa: A002 - the published name
        """Follow objects through a whole clip.

        Args:
            input: Frames, and one prompt an object.

        Returns:
            Every object in every frame from the earliest prompted one on, by frame and then in
            the order of `objects_ids`; where an object is not to be seen its mask is empty.

        Raises:
            RuntimeError: If the model is not loaded.
            ValueError: If a prompt cannot be used, or the frames are not all of one size.
            MediaError: If a frame given by path cannot be read.
        """
        self._loaded()
        answer = TrackingOutput(objects_ids=[], frame_indexes=[], masks=[])
        if not input.objects_ids:
            return answer
        prompts: dict[int, list[ObjectPrompt]] = {}
        for index, frame in enumerate(input.frame_indexes):
            prompts.setdefault(frame, []).append(_prompt(input, index))
        height, width = _pixels(input.video[min(prompts)]).shape[:2]
        session = self.open_session(width, height, length=len(input.video))
        try:
            for frame in sorted(prompts):
                session.condition(frame, _pixels(input.video[frame]), prompts[frame])
            for frame in range(min(prompts), len(input.video)):
                found = session.step(frame, _pixels(input.video[frame]))
                for object_id in input.objects_ids:
                    answer.objects_ids.append(object_id)
                    answer.frame_indexes.append(frame)
                    answer.masks.append(found[object_id].mask)
        finally:
            session.close()
        return answer


@register_model(TINY.name)
class Sam2VideoTiny(Sam2Video):
    """SAM 2.1 with its smallest image encoder, 39 million weights."""

    published = TINY
    card = card_of(TINY, _USE)


@register_model(SMALL.name)
class Sam2VideoSmall(Sam2Video):
    """SAM 2.1 with 46 million weights."""

    published = SMALL
    card = card_of(SMALL, _USE)


@register_model(BASE_PLUS.name)
class Sam2VideoBasePlus(Sam2Video):
    """SAM 2.1 with 81 million weights."""

    published = BASE_PLUS
    card = card_of(BASE_PLUS, _USE)


@register_model(LARGE.name)
class Sam2VideoLarge(Sam2Video):
    """SAM 2.1 with its largest image encoder, 224 million weights."""

    published = LARGE
    card = card_of(LARGE, _USE)


def _prompt(request: TrackingInput, index: int) -> ObjectPrompt:
    box = request.boxes[index] if request.boxes else []
    if box and len(box) != 4:
        raise ValueError(f"box {index} must be four numbers, not {box}")
    return ObjectPrompt(
        object_id=request.objects_ids[index],
        box=(box[0], box[1], box[2], box[3]) if box else None,
        points=tuple((x, y) for x, y in request.points[index]) if request.points else (),
        labels=tuple(request.labels[index]) if request.labels else (),
    )


def _pixels(image: RGBImage | str | Path) -> RGBImage:
    if isinstance(image, np.ndarray):
        return image
    from pixano_cli.media.decode import decode_image
    from pixano_cli.media.flight import read_url, url_of_image

    return decode_image(read_url(url_of_image(image)))
