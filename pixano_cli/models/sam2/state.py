"""A session's state as bytes: tensors as safetensors, everything else as JSON in its header.

The bytes end with the SHA-256 of all before it, as safetensors itself does not notice when a
tensor's values were damaged. Nothing in it is code: reading it runs none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

import torch
from safetensors.torch import load, save
from torch import Tensor

from pixano_cli.errors import ModelError
from pixano_cli.models.sam2.memory import Found, Memory, ObjectMemory, Prompted
from pixano_cli.models.sam2.session import Progress, Video

_KEY: Final = "pixano-annotate"
_FORMAT: Final = "sam2-session-1"
_DIGEST_SIZE: Final = 32
_AGAIN: Final = "begin with the video again"


def dump(progress: Progress, video: Video, model_digest: str) -> bytes:
    """Write a session down."""
    tensors: dict[str, Tensor] = {}

    def keep(name: str, tensor: Tensor | None) -> None:
        if tensor is not None:
            # Cloned: safetensors refuses tensors that share memory.
            tensors[name] = tensor.detach().cpu().contiguous().clone()

    objects = []
    for index, (object_id, memory) in enumerate(progress.objects.items()):
        for kind, memories in (("c", memory.conditioning), ("t", memory.tracked)):
            for frame, each in memories.items():
                keep(f"{index}/{kind}/{frame}/features", each.features)
                keep(f"{index}/{kind}/{frame}/pointer", each.pointer)
        for frame, prompted in memory.prompted.items():
            keep(f"{index}/p/{frame}/logits", prompted.found.logits)
            keep(f"{index}/p/{frame}/points", prompted.points)
            keep(f"{index}/p/{frame}/labels", prompted.labels)
        objects.append(
            {
                "id": object_id,
                "conditioning": list(memory.conditioning),
                "tracked": list(memory.tracked),
                "prompted": [[frame, each.found.score] for frame, each in memory.prompted.items()],
            }
        )
    header = {
        "format": _FORMAT,
        "model": model_digest,
        "video": [video.width, video.height, video.length],
        "last": progress.last,
        "objects": objects,
    }
    content: bytes = save(tensors, metadata={_KEY: json.dumps(header)})
    return content + hashlib.sha256(content).digest()


def restore(state: bytes, video: Video, model_digest: str, device: torch.device) -> Progress:
    """Read a session's state, for a video of this size.

    Raises:
        ModelError: If it is no state, is damaged, or is one of another model or video.
    """
    content = bytes(state[:-_DIGEST_SIZE])
    if hashlib.sha256(content).digest() != state[-_DIGEST_SIZE:]:
        raise ModelError(f"the state of tracking is damaged: {_AGAIN}")
    try:
        header = _header(content)
        tensors = load(content)
    except Exception as error:  # safetensors' own, which is no ValueError, and those of JSON
        raise ModelError(f"this is no state of tracking with SAM 2: {_AGAIN}") from error
    if header.get("format") != _FORMAT:
        raise ModelError(
            f"the state of tracking is of the kind {header.get('format')!r}, not {_FORMAT!r}: "
            f"{_AGAIN}"
        )
    if header.get("model") != model_digest:
        raise ModelError(f"the state of tracking is one of another model: {_AGAIN}")
    if header.get("video") != [video.width, video.height, video.length]:
        raise ModelError(
            f"the state of tracking is one of a video of {header.get('video')} (width, height, "
            f"length), not {[video.width, video.height, video.length]}: {_AGAIN}"
        )
    try:
        return Progress(
            objects={
                int(each["id"]): _object(each, index, tensors, device)
                for index, each in enumerate(header["objects"])
            },
            last=None if header["last"] is None else int(header["last"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the state of tracking is incomplete ({error}): {_AGAIN}") from error


def _header(content: bytes) -> dict[str, Any]:
    """Read the JSON that was given as metadata: safetensors begins with its header's length."""
    length = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][_KEY])
    return header


def _object(
    header: Mapping[str, Any], index: int, tensors: Mapping[str, Tensor], device: torch.device
) -> ObjectMemory:
    def found(name: str) -> Tensor | None:
        tensor = tensors.get(f"{index}/{name}")
        return None if tensor is None else tensor.to(device)

    def needed(name: str) -> Tensor:
        return tensors[f"{index}/{name}"].to(device)

    def memories(kind: str, name: str) -> dict[int, Memory]:
        return {
            int(frame): Memory(found(f"{kind}/{frame}/features"), needed(f"{kind}/{frame}/pointer"))
            for frame in header[name]
        }

    return ObjectMemory(
        conditioning=memories("c", "conditioning"),
        tracked=memories("t", "tracked"),
        prompted={
            int(frame): Prompted(
                Found(needed(f"p/{frame}/logits"), score),
                found(f"p/{frame}/points"),
                found(f"p/{frame}/labels"),
            )
            for frame, score in header["prompted"]
        },
    )
