"""Text on its way into files and messages, and JSON on its way out of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pixano_cli.errors import UsageError


def portable(text: str) -> str:
    r"""Return `text` as every reader of UTF-8 can take it.

    A name whose bytes are not UTF-8 (a lone surrogate in Python) is written with backslashes, as
    `caf\udce9.jpg`; any other text is returned as it is.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text


def shown(path: Path) -> str:
    """Return a path as it stands in a message: on one line, whatever its name holds."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def parse_json(content: bytes, path: Path) -> Any:
    """Parse the content of the JSON file `path`; a byte order mark and NaN are let pass.

    Raises:
        UsageError: If it is not JSON.
    """
    import json

    import orjson

    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as refusal:
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise UsageError(
                f"{shown(path)} is not JSON: {refusal.msg} (line {refusal.lineno}, "
                f"column {refusal.colno})"
            ) from None
