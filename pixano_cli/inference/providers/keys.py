"""API keys: where one is found, and a value that does not show what it holds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

from pixano_cli.errors import UsageError

_LARGEST_FILE = 16 * 1024
_HIDDEN = "[API key]"


class ApiKey:
    """A secret: whatever prints it, formats it or logs it shows where it was found instead.

    Attributes:
        source: Where it was found, for errors: an environment variable or a file.
    """

    __slots__ = ("__value", "source")

    def __init__(self, value: str, source: str) -> None:
        """Hold a key.

        Raises:
            UsageError: If `value` is no text that an HTTP header can carry, or is empty.
        """
        if not value or not all("!" <= character <= "~" for character in value):
            raise UsageError(
                f"{source} holds no API key: one line of letters, digits and signs is wanted"
            )
        self.__value = value
        self.source = source

    def reveal(self) -> str:
        """Return the key itself, for the one header that carries it."""
        return self.__value

    def hide_in(self, text: str) -> str:
        """Return `text`, which others wrote, with the key blotted out wherever it stands."""
        for written in (self.__value, quote(self.__value, safe="")):
            text = text.replace(written, _HIDDEN)
        return text

    def __repr__(self) -> str:
        """Tell where it was found, not what it is."""
        return f"<API key of {self.source}>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied."""
        raise TypeError("an API key is not to be copied or written down")


def find_key(variable: str, file: str | Path | None = None) -> ApiKey | None:
    """Find the key of a server.

    Args:
        variable: Environment variable that holds it; set but empty counts as not set.
        file: File that holds it instead: the key, alone on its line.

    Returns:
        The key; None if no file is given and the variable is not set.

    Raises:
        UsageError: If the file cannot be read, or what is found is no key.
    """
    if file is None:
        value = os.environ.get(variable, "").strip()
        return ApiKey(value, f"the environment variable {variable}") if value else None
    path = Path(file)
    try:
        with path.open("rb") as opened:
            content = opened.read(_LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no possible file name"
        raise UsageError(f"cannot read the API key file {str(path)!r}: {reason.lower()}") from None
    # What is not ASCII becomes something that no key has, and is refused with the rest.
    text = content.decode("ascii", "replace").strip()
    return ApiKey(text if len(content) <= _LARGEST_FILE else "", f"the file {str(path)!r}")
