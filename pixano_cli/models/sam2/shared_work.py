"""Work that sam2's network does again for every frame or every object, done once.

What is kept is what the network's own code computed: not a bit of an answer changes. It is put in
place of methods of the network's parts; none of sam2's classes is changed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def keep_encodings(model: Any) -> None:
    """Compute the position encodings of the image encoder and of the mask decoder here and now.

    They follow from the weights and the input's size alone. It is to be called in the conditions
    in which the network will run: its device, and autocast as it will be. The sine encodings are
    kept by sam2 itself, but copied for every frame: 90 MB at 1024 pixels.
    """
    for part in (model.image_encoder.neck, model.memory_encoder):
        _lend(part.position_encoding)
    trunk = model.image_encoder.trunk
    compute: Callable[[tuple[int, int]], Tensor] = trunk._get_pos_embed
    stride = trunk.patch_embed.proj.stride[0]
    size = (model.image_size // stride, model.image_size // stride)
    kept = compute(size)

    def of_image(hw: tuple[int, int]) -> Tensor:
        return kept if tuple(hw) == size else compute(hw)

    trunk._get_pos_embed = of_image
    dense: Tensor = model.sam_prompt_encoder.get_dense_pe()
    model.sam_prompt_encoder.get_dense_pe = lambda: dense


def _lend(encoding: Any) -> None:
    """Let a `PositionEmbeddingSine` give what it keeps in place of copies."""
    compute: Callable[..., Tensor] = encoding._pe

    def kept(batch: int, device: Any, *size: int) -> Tensor:
        if size not in encoding.cache:
            compute(1, device, *size)
        lent: Tensor = encoding.cache[size].to(device)[None].expand(batch, -1, -1, -1)
        return lent

    encoding._pe = kept


class FirstAttention:
    """The first self-attention of the memory attention, once a frame.

    It sees the frame's features before any object's memory has come in, so that it is the same
    for every object in the frame.
    """

    def __init__(self, model: Any) -> None:
        """Put it in its place in the network."""
        layer = model.memory_attention.layers[0]
        self._compute: Callable[[Tensor, Tensor], Tensor] = layer._forward_sa
        # Several sessions may use the network at once, each in a thread of its own.
        self._thread = threading.local()
        layer._forward_sa = self._attend

    @contextmanager
    def of_frame(self, kept: list[Tensor]) -> Iterator[None]:
        """Use what is in `kept`, which belongs to one frame, or put it there."""
        self._thread.kept = kept
        try:
            yield
        finally:
            self._thread.kept = None

    def _attend(self, tgt: Tensor, query_pos: Tensor) -> Tensor:
        kept: list[Tensor] | None = getattr(self._thread, "kept", None)
        if kept is None:
            return self._compute(tgt, query_pos)
        if not kept:
            kept.append(self._compute(tgt[:1], query_pos[:1]))
        return kept[0].expand(tgt.shape[0], -1, -1)
