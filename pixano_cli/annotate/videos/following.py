"""What is asked of a model that follows objects, in whatever portions it takes the frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pixano_cli.annotate.identity import Request
from pixano_cli.annotate.task import registration
from pixano_cli.annotate.videos.finding import Finder
from pixano_cli.annotate.videos.objects import Detected
from pixano_cli.annotate.videos.sampling import Sampling
from pixano_cli.annotate.videos.task import Plan
from pixano_cli.annotate.videos.tracks import match_new
from pixano_cli.inference.errors import InvalidRequestError
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference_store.ledger import Picture
from pixano_cli.inference_store.models import NewRegisterModelRequest
from pixano_cli.models.tracking import ObjectPrompt
from pixano_cli.rle import CompressedRLEData


@dataclass(slots=True)
class Object:
    """An object that is followed.

    Attributes:
        label: Class name.
        score: How sure the detector was of it; None if the user named it.
        unseen: How many frames it was not to be seen in, up to now.
    """

    label: str
    score: float | None = None
    unseen: int = 0


@dataclass(slots=True)
class Objects:
    """What is followed in a video, by id, and the highest id that was given."""

    by_id: dict[int, Object] = field(default_factory=dict)
    last_id: int = 0

    def begin(
        self,
        found: Iterable[Detected],
        masks: Mapping[int, CompressedRLEData],
        picture: Picture,
    ) -> list[ObjectPrompt]:
        """Take up what is new in a frame, and return what it is prompted by there.

        Args:
            found: What was found in the frame.
            masks: Masks of the followed objects in the frame, by object.
            picture: The video, for the size of its frames.
        """
        prompts = []
        for each in match_new([*found], masks):
            box = each.box.clip(picture.width, picture.height)
            if box.is_empty:
                continue
            number = each.track_id
            if number is None or number in self.by_id:
                number = self.last_id + 1
            self.last_id = max(self.last_id, number)
            self.by_id[number] = Object(each.label, each.score)
            prompts.append(ObjectPrompt(number, box=(*box,)))
        return prompts

    def dump(self) -> dict[str, Any]:
        """Convert to what JSON has."""
        return {
            "objects": [[each, asdict(self.by_id[each])] for each in self.by_id],
            "last_id": self.last_id,
        }

    @classmethod
    def load(cls, kept: Mapping[str, Any]) -> Objects:
        """Read what `dump` made."""
        return cls({each: Object(**given) for each, given in kept["objects"]}, kept["last_id"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """What is asked about each video, but for the way; part of a `VideoTask`.

    Attributes:
        provider: Who is asked.
        tracking: What is asked of the model.
        finder: What finds objects, where no file names them.
        threshold: Lowest score of a detection that becomes an object.
        parameters: All that the masks depend on beside the request, the frames and the objects.
        sampling: Which frames are looked at.
        detect_every: The detector looks at one frame in so many of these.
        checkpoint_every: See `VideoTask`.
    """

    provider: InferenceProvider
    tracking: Request
    finder: Finder
    threshold: float
    parameters: dict[str, Any]
    sampling: Sampling
    detect_every: int
    checkpoint_every: int
    name: str = "segment-video"

    @property
    def requests(self) -> tuple[Request, ...]:
        """The detector, where there is one, and the model that follows."""
        found = self.finder.request
        return (self.tracking,) if found is None else (found, self.tracking)

    @property
    def registrations(self) -> tuple[NewRegisterModelRequest, ...]:
        """The same as models."""
        return tuple(map(registration, self.requests))

    @property
    def plan(self) -> Plan:
        """What is wanted of every video."""
        found = self.finder.request
        parameters = {
            **self.tracking.parameters,
            **self.parameters,
            **self.portions,
            "sampling": self.sampling.to_dict(),
            "detect_every": self.detect_every,
            "threshold": self.threshold,
            "detector": None if found is None else found.key,
        }
        request = replace(self.tracking, parameters=parameters)
        return Plan(request, () if found is None else (found.key,), answers_itself=True)

    @property
    def portions(self) -> dict[str, Any]:
        """In what portions the model takes the frames, where its answer depends on that."""
        return {}

    def likely(self, found: Iterable[Detected]) -> list[Detected]:
        """Return the detections that may become objects."""
        return [each for each in found if each.score is None or each.score >= self.threshold]


def not_looked_at(object_id: int, frame_index: int) -> InvalidRequestError:
    """Return the error of a prompt in a frame that is not looked at."""
    return InvalidRequestError(
        f"object {object_id} is prompted in frame {frame_index}, which is not among the frames "
        "that are looked at: name one that is"
    )
