"""The family of errors that a user sees: one line each, what happened, to what, what to do."""

from __future__ import annotations

from typing import ClassVar


class PixanoAnnotateError(Exception):
    """Base of every error this tool raises on purpose.

    Its text is one line that a user can act on. `exit_code` is what the command line
    exits with when the error ends a run.
    """

    exit_code: ClassVar[int] = 1


class UsageError(PixanoAnnotateError):
    """The request itself is wrong: an unknown name, a bad value, a source that is not there."""

    exit_code: ClassVar[int] = 2


class MediaError(PixanoAnnotateError):
    """A file cannot be used as an image, or as a video.

    `stage` is where it failed: "read" (the bytes cannot be had) or "decode" (they are no
    image or video that can be used).
    """

    stage: ClassVar[str] = "decode"


class MediaReadError(MediaError):
    """The bytes of a file cannot be read."""

    stage: ClassVar[str] = "read"


class ImageDecodeError(MediaError):
    """The bytes are not a whole, safe image in a supported format."""


class VideoError(MediaError):
    """The file is not a video with frames that can be shown, or is damaged part of the way."""


class ModelError(PixanoAnnotateError):
    """A model's weights are missing or altered, or its plugin cannot be loaded."""


class StoreError(PixanoAnnotateError):
    """The inference store cannot be opened, read or written; what it holds is not touched."""


class OutputError(PixanoAnnotateError):
    """An output file cannot be written; an earlier version of it is left as it was."""
