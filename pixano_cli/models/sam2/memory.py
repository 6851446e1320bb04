"""What is remembered of an object, and for how long: only what attention may still read.

SAM 2 attends, in every frame, to the frames in which an object was prompted (its conditioning
frames, those ahead included), to the masks it found in a few frames before, and to one vector, the
object's pointer, from some more of them. `Reach` says which those are, after
`SAM2Base._prepare_memory_conditioned_features` and `select_closest_cond_frames` of sam2 1.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class Memory:
    """What one frame left of one object.

    Attributes:
        features: Its mask in that frame, encoded: [1, channels, height, width], bfloat16; None
            once no frame to come can attend to it.
        pointer: The object's vector in that frame, [1, channels].
    """

    features: Tensor | None
    pointer: Tensor


@dataclass(frozen=True, slots=True)
class Found:
    """What one frame shows of one object.

    Attributes:
        logits: Its mask, at the model's low resolution: [1, 1, height, width].
        score: How sure the model is that it is to be seen; None if it does not say.
    """

    logits: Tensor
    score: float | None


@dataclass(frozen=True, slots=True)
class Prompted:
    """A prompted frame that was not stepped through yet.

    Attributes:
        found: What the prompts gave.
        points: (x, y) in pixels of the model's input, [1, number, 2]; None after a mask.
        labels: Of each point, [1, number]: 1 inside, 0 outside, 2 and 3 a box's corners.
    """

    found: Found
    points: Tensor | None = None
    labels: Tensor | None = None


@dataclass(slots=True)
class ObjectMemory:
    """All that is remembered of one object, by frame.

    The order of `conditioning` is that in which its frames were first prompted: attention sums in
    that order, and its results depend on it in the last bits.
    """

    conditioning: dict[int, Memory] = field(default_factory=dict)
    tracked: dict[int, Memory] = field(default_factory=dict)
    prompted: dict[int, Prompted] = field(default_factory=dict)

    @property
    def layout(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Which frames there are; objects of the same layout can be tracked in one batch."""
        return tuple(self.conditioning), tuple(self.tracked)

    def drop(self, last: int, reach: Reach) -> None:
        """Drop what no frame after `last` can attend to."""
        for frame in [frame for frame in self.prompted if frame <= last]:
            del self.prompted[frame]
        for frame in [frame for frame in self.tracked if not reach.reads_pointer(frame, last)]:
            if not reach.reads_features(frame, last):
                del self.tracked[frame]
        for frame, memory in self.tracked.items():
            if not reach.reads_features(frame, last):
                memory.features = None
        for frame in reach.out_of_reach(self.conditioning, last):
            del self.conditioning[frame]


@dataclass(frozen=True, slots=True)
class Reach:
    """How far attention reads, as a network is configured.

    Attributes:
        masks: Frames whose masks are read, conditioning frames as one of them (`num_maskmem`).
        stride: The frames before the last one are every `stride`-th.
        pointers: Frames whose pointers are read, this one included; 0 for none.
        conditioning: Most conditioning frames that are read, those nearest in time; -1 for all.
    """

    masks: int
    stride: int
    pointers: int
    conditioning: int

    @classmethod
    def of(cls, model: Any) -> Self:
        """Read it from a `SAM2Base`."""
        return cls(
            masks=model.num_maskmem,
            stride=model.memory_temporal_stride_for_eval,
            pointers=model.max_obj_ptrs_in_encoder if model.use_obj_ptrs_in_encoder else 0,
            conditioning=model.max_cond_frames_in_attn,
        )

    def reads_features(self, frame: int, last: int) -> bool:
        """Tell whether a frame after `last` may read the mask of a tracked frame up to `last`."""
        if self.masks < 2:
            return False
        if frame == last:
            return True
        # What is read in frame f > last: f - 1, and counted back from (f - 2) in whole strides,
        # `masks - 2` frames.
        newest = (last - 1) // self.stride * self.stride
        oldest = newest - (self.masks - 3) * self.stride
        return self.masks > 2 and frame % self.stride == 0 and frame >= oldest

    def reads_pointer(self, frame: int, last: int) -> bool:
        """Tell whether a frame after `last` may read the pointer of a tracked frame."""
        return frame > last + 1 - self.pointers

    def out_of_reach(self, conditioning: dict[int, Memory], last: int) -> list[int]:
        """Return the conditioning frames that no frame after `last` can attend to.

        With a limit these are passed ones with enough newer ones passed, as all of those are
        nearer for ever. One more than the limit stays: while there are more than are read, they
        are read in order of distance, else in the order they were prompted in.
        """
        if self.conditioning < 0:
            return []
        passed = sorted((frame for frame in conditioning if frame <= last), reverse=True)
        return [
            frame
            for frame in passed[self.conditioning + 1 :]
            if not (self.reads_features(frame, last) or self.reads_pointer(frame, last))
        ]
