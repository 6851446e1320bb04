"""How much each benchmark does."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many images, annotations and repetitions; by default those of the requirements."""

    speed_images: int = 500
    speed_rounds: int = 5
    memory_few: int = 500
    memory_many: int = 5_000
    again_images: int = 10_000
    again_rounds: int = 3
    help_rounds: int = 10
    output_few: int = 100_000
    output_many: int = 1_000_000
    segment_images: int = 12
    store_few: int = 100_000
    store_many: int = 1_000_000
    export_few: int = 100_000
    export_many: int = 1_000_000
    remote_requests: int = 2_000
    remote_few: int = 10_000
    remote_many: int = 100_000
    similarity_vectors: int = 1_000_000
    similarity_rounds: int = 5
    video_every: int = 1
    video_rounds: int = 3
    video_few: int = 300
    video_many: int = 3_000
    video_mask_every: int = 100
    video_clips: int = 10
    video_clip_frames: int = 60
    video_clip_mask_every: int = 6
    sam2_objects: str = "1,4"
    sam2_frames: int = 40
    sam2_few: int = 300
    sam2_many: int = 3_000


QUICK = Sizes(
    speed_images=2,
    speed_rounds=1,
    memory_few=2,
    memory_many=4,
    again_images=4,
    again_rounds=1,
    help_rounds=1,
    output_few=20,
    output_many=100,
    segment_images=2,
    store_few=40,
    store_many=200,
    export_few=10,
    export_many=30,
    remote_requests=20,
    remote_few=10,
    remote_many=20,
    # As many as a file of vectors is made for.
    similarity_vectors=17_000,
    similarity_rounds=1,
    video_every=30,
    video_rounds=1,
    video_few=4,
    video_many=8,
    video_mask_every=8,
    video_clips=2,
    video_clip_frames=4,
    video_clip_mask_every=8,
    sam2_objects="1",
    sam2_frames=9,
    sam2_few=2,
    sam2_many=4,
)
"""Just enough to see that every benchmark works; what is required of time need not hold."""
