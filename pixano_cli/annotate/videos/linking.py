"""From what is found in single frames to objects that are followed, frame by frame.

The detector may look at some frames only. In those between two of them the boxes of objects that
are in both are interpolated; what moves beyond that is for a model that follows objects by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from pixano_cli.annotate.videos.objects import Detected
from pixano_cli.annotate.videos.tracks import Identities, Linked, between, iou

F = TypeVar("F")

# From this overlap (IoU) on, what was found is what the user names.
_SAME = 0.5

Objects = Sequence[Linked]
"""The objects of a frame."""


@dataclass(frozen=True, slots=True)
class Named:
    """An object that the user names in a frame: what is found there is it."""

    object_id: int
    label: str
    detection: Detected


@dataclass(slots=True)
class _Looked(Generic[F]):
    """A frame that the detector looked at, and those after it that it did not look at.

    Once it is settled, it has its objects, and says whose tracks those are that the user named.
    """

    frame: F
    named: Sequence[Named]
    between: list[F]
    linked: Objects | None = None
    owners: Mapping[int, Named] = field(default_factory=dict)


class Linking(Generic[F]):
    """Takes frames in order and gives them back, in order, with the objects in them.

    Where the user names objects, only these are given, under their own ids and labels.
    """

    def __init__(self, linker: Identities, *, only_named: bool) -> None:
        """Begin a video."""
        self._linker = linker
        self._only_named = only_named
        self._owners: Mapping[int, Named] = {}
        # At most three: one that is settled, one whose identities are, and the latest.
        self._looked: list[_Looked[F]] = []
        self._before: list[F] = []

    def push(
        self, frame: F, found: Sequence[Detected] | None, named: Sequence[Named] = ()
    ) -> list[tuple[F, Objects]]:
        """Take a frame.

        Args:
            frame: The frame.
            found: What was found in it; None if nobody looked.
            named: The objects that the user names in it, in place of which nothing is found.

        Returns:
            The frames that are settled by that.
        """
        if found is None:
            (self._looked[-1].between if self._looked else self._before).append(frame)
            return []
        given = [*found, *(each.detection for each in named)]
        linked = self._linker.push(given)
        self._looked.append(_Looked(frame, named, []))
        if linked is not None:
            self._settle(self._looked[-2], linked)
        return list(self._settled())

    def flush(self) -> list[tuple[F, Objects]]:
        """Return the frames that are left; one after the last look has no objects."""
        linked = self._linker.flush()
        if self._looked:
            self._settle(self._looked[-1], linked or ())
        left = list(self._settled())
        for looked in self._looked:
            left.append((looked.frame, self._shown(looked.linked or (), looked)))
            left += ((frame, ()) for frame in looked.between)
        self._looked = []
        return left

    def _settle(self, looked: _Looked[F], linked: Objects) -> None:
        by_detection = {id(each.detection): each for each in looked.named}
        found = {
            track_id: by_detection[id(detection)]
            for detection, track_id in linked
            if id(detection) in by_detection
        }
        # Whoever names an object again says that it is not what it was taken for.
        again = {each.object_id for each in found.values()}
        kept = {
            track_id: owner
            for track_id, owner in self._owners.items()
            if owner.object_id not in again
        }
        self._owners = {**kept, **found}
        looked.linked, looked.owners = linked, self._owners

    def _shown(self, linked: Objects, looked: _Looked[F]) -> Objects:
        """Return what is shown of objects, by what the user has named up to a frame."""
        if not self._only_named:
            return linked
        best: dict[int, Linked] = {}
        for detection, track_id in linked:
            owner = looked.owners.get(track_id)
            if owner is None:
                continue
            shown = replace(detection, label=owner.label)
            other = best.get(owner.object_id)
            if other is None or (shown.score or 0.0) > (other.found.score or 0.0):
                best[owner.object_id] = Linked(shown, owner.object_id)
        return tuple(best.values())

    def _settled(self) -> Iterator[tuple[F, Objects]]:
        yield from ((frame, ()) for frame in self._before)
        self._before = []
        while len(self._looked) > 1 and self._looked[0].linked is not None:
            looked, after = self._looked[:2]
            if looked.between and after.linked is None:
                return
            yield looked.frame, self._shown(looked.linked or (), looked)
            count = len(looked.between)
            for place, frame in enumerate(looked.between, start=1):
                part = place / (count + 1)
                there = between(looked.linked or (), after.linked or (), part)
                yield frame, self._shown(there, looked)
            del self._looked[0]


def without(found: Sequence[Detected], named: Sequence[Named]) -> list[Detected]:
    """Return what was found, but for what the user names there himself."""
    return [
        each for each in found if all(iou(each.box, other.detection.box) < _SAME for other in named)
    ]
