"""API keys: where one is found, and a value that does not show what it holds.

A key is also taken out of what others write, be it a server that repeats what it was sent or a
library that tells of a request: as it is, percent-encoded, and in base64, as Basic
authentication has it.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from weakref import WeakSet

from pixano_cli.errors import UsageError

_LARGEST_FILE = 16 * 1024
_HIDDEN = "[API key]"
_SHORTEST_SECRET = 8
_held: WeakSet[ApiKey] = WeakSet()


class ApiKey:
    """A secret: whatever prints it, formats it or logs it shows where it was found instead.

    Attributes:
        source: Where it was found, for errors: an environment variable or a file.
    """

    __slots__ = ("__percent_encoded", "__value", "__weakref__", "__written", "source")

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
        disguised = dict.fromkeys(_in_base64(value.encode())) if self.is_secret else ()
        self.__written = (value, *disguised)
        each = (f"(?:{re.escape(one)}|(?i:%{ord(one):02x}))" for one in value)
        self.__percent_encoded = re.compile("".join(each))
        self.source = source
        _held.add(self)

    @property
    def is_secret(self) -> bool:
        """Whether it is more than a word, as "none" or "EMPTY", which any text may have."""
        return len(self.__value) >= _SHORTEST_SECRET

    def reveal(self) -> str:
        """Return the key itself, for the one header that carries it."""
        return self.__value

    def hide_in(self, text: str) -> str:
        """Return `text`, which others wrote, with the key blotted out wherever it stands."""
        for written in self.__written:
            text = text.replace(written, _HIDDEN)
        return self.__percent_encoded.sub(_HIDDEN, text) if "%" in text else text

    def hide_in_answer(self, body: bytes, value: Any) -> Any:
        """Return the JSON of an answer with the key blotted out of all its texts.

        Args:
            body: The answer.
            value: What was read from it.
        """
        # Nearly all answers end here: the key is not there, and could not be in disguise.
        is_clean = b"%" not in body and b"\\" not in body
        if not self.is_secret or (
            is_clean and not any(written.encode() in body for written in self.__written)
        ):
            return value
        return self._hidden(value)

    def _hidden(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.hide_in(value)
        if isinstance(value, list):
            return [self._hidden(each) for each in value]
        if isinstance(value, dict):
            return {self.hide_in(name): self._hidden(each) for name, each in value.items()}
        return value

    def __repr__(self) -> str:
        """Tell where it was found, not what it is."""
        return f"<API key of {self.source}>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied."""
        raise TypeError("an API key is not to be copied or written down")


def hide_keys(text: str) -> str:
    """Return `text` with every key of this process blotted out."""
    for key in tuple(_held):
        if key.is_secret:
            text = key.hide_in(text)
    return text


def _in_base64(value: bytes) -> Iterator[str]:
    """Yield base64 of a value at each of the three places where it can begin in a group."""
    for before in range(3):
        first, end = (before * 8 + 5) // 6, (before + len(value)) * 8 // 6
        for encode in (b64encode, urlsafe_b64encode):
            yield encode(bytes(before) + value).decode()[first:end]


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
