"""What is recorded of an answer about a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pixano_cli.annotate.identity import Request, inference_id
from pixano_cli.annotate.task import STORED_AS, stored_model
from pixano_cli.annotate.videos.at_hand import FrameAtHand
from pixano_cli.inference_store.records import Record


def frame_record(
    at: FrameAtHand,
    request: Request,
    request_key: str,
    elements: Sequence[Mapping[str, Any]],
    prompts: Sequence[Mapping[str, Any]] | None = None,
) -> Record:
    """Return what is recorded of an answer.

    What was asked is not repeated in the metadata, as it is for an image: a video has many frames.

    Args:
        at: The frame.
        request: What was asked.
        request_key: What the answer is known by, with the video and the frame.
        elements: The answer.
        prompts: What they answer, where that is no part of the request.
    """
    video = at.video
    task_type, action = STORED_AS[request.task]
    return Record(
        model_id=stored_model(request),
        inference_id=inference_id(request_key, video.sha256, prompts, at.index),
        task_type=task_type.value,
        inference_action=action.value,
        data_hash=video.sha256,
        data_size=video.picture.size,
        elements=elements,
        data_source=video.item.root,
        request_key=request_key,
        frame=(at.index, at.timestamp_s, at.frame.file_name),
        metadata={
            "run_id": ("string", video.run_id),
            "file_name": ("string", at.name),
            "video": ("string", video.item.file_name),
            "frame_index": ("int", str(at.index)),
            "timestamp_s": ("float", repr(at.timestamp_s)),
            "width": ("int", str(video.picture.width)),
            "height": ("int", str(video.picture.height)),
        },
    )
