"""What can go wrong between this tool and a provider: one flat family of errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import ClassVar

from pixano_cli.errors import PixanoAnnotateError


class InferenceError(PixanoAnnotateError):
    """A provider did not answer a request with a result.

    Attributes:
        usage: Tokens that were used all the same, by name as in `UsageInfo`, where a server
            reported them; None where it did not, or answered nothing.
    """

    usage: Mapping[str, int] | None = None


class ProviderNotFoundError(InferenceError):
    """No provider is registered under the name."""

    exit_code: ClassVar[int] = 2


class ProviderConnectionError(InferenceError):
    """The provider cannot be reached, or the connection broke."""


class ProviderDownError(InferenceError):
    """The provider has been away for so long that there is no use in asking for anything."""


class NotSentError(InferenceError):
    """The provider was told to begin nothing more before it had begun with this."""


class InferenceTimeoutError(InferenceError):
    """The provider did not answer in time."""


class ModelNotFoundError(InferenceError):
    """The provider has no model of the name."""

    exit_code: ClassVar[int] = 2


class TaskNotSupportedError(InferenceError):
    """The provider, or the model, does not do the task."""

    exit_code: ClassVar[int] = 2


class InvalidRequestError(InferenceError):
    """The provider refuses the request as it is; the same request again is refused again."""


def choices(wanted: str, known: Iterable[str]) -> str:
    """Say what could have been meant by an unknown name, to end an error's line with.

    Args:
        wanted: The name that is not known.
        known: The names that are.

    Returns:
        The known name most like `wanted`, if there is one, and all known names in order.
    """
    names = sorted(known)
    if not names:
        return "none is known"
    listed = f"known: {', '.join(names)}"
    likely = get_close_matches(wanted, names, n=1)
    return f"did you mean {likely[0]!r}? ({listed})" if likely else listed
