"""Frames of videos with tracks, for the tests of the formats that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pixano_cli import rle
from pixano_cli.annotations import AnnotatedImage, Annotation, annotation_from_element, order

from .samples import CATEGORIES, image, numbered


def tracked(annotation: Annotation, track_id: int, score: float | None = 0.5) -> Annotation:
    return replace(annotation, track_id=track_id, score=score)


def frame(
    video: str, index: int, *annotations: Annotation, timestamp_s: float | None = None
) -> AnnotatedImage:
    """A frame of 64 x 48 pixels of a video file."""
    return image(
        f"{video}/frame_{index:06d}.png",
        *order(annotations),
        video=video,
        frame_index=index,
        timestamp_s=timestamp_s,
    )


@st.composite
def _found(draw: st.DrawFn, width: int, height: int, labels: Sequence[str]) -> Sequence[Annotation]:
    """Objects of one frame, some of them of tracks, some without masks."""
    found = []
    tracks = draw(st.lists(st.integers(0, len(labels) - 1), unique=True, max_size=4))
    for track in [*tracks, *([None] if draw(st.booleans()) else [])]:
        element: dict[str, Any] = {
            "label": "cup" if track is None else labels[track],
            "score": draw(st.none() | st.integers(0, 100).map(lambda score: score / 100)),
        }
        if draw(st.integers(0, 3)):
            mask = draw(hnp.arrays(np.bool_, (height, width)))
            element["rle"] = rle.encode(mask).to_dict()
        else:
            element |= {"xmin": 0.25, "ymin": 0, "xmax": draw(st.integers(1, width)), "ymax": 1}
        annotation = annotation_from_element(element, width, height)
        if annotation is not None:
            found.append(replace(annotation, track_id=None if track is None else 3 * track + 1))
    return order(found)


@st.composite
def videos(draw: st.DrawFn) -> list[AnnotatedImage]:
    """Numbered frames of up to three videos, with and without objects."""
    made = []
    names = draw(st.lists(st.text("ab/.", min_size=1, max_size=4), unique=True, max_size=3))
    for name in names:
        width, height = draw(st.integers(1, 20)), draw(st.integers(1, 20))
        labels = draw(st.lists(st.sampled_from([each.name for each in CATEGORIES]), min_size=1))
        step = draw(st.integers(1, 7))
        made += [
            image(
                f"{name}/{index:06d}.png",
                *draw(_found(width, height, labels)),
                width=width,
                height=height,
                video=name,
                frame_index=index,
                timestamp_s=draw(st.none() | st.just(index / 30)),
            )
            for index in range(0, step * draw(st.integers(1, 5)), step)
        ]
    return numbered(*made)
