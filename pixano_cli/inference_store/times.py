"""Times: whole microseconds since 1970 in the tables, UTC datetimes and text outside of them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from pixano_cli.errors import StoreError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FORM = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?Z")


def from_microseconds(microseconds: int) -> datetime:
    """Return the UTC datetime of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=microseconds)


def read_nanoseconds(text: str) -> int:
    """Return the nanoseconds since 1970 of a time written `YYYY-MM-DDTHH:MM:SS[.fraction]Z`.

    Raises:
        StoreError: If it is not written so.
    """
    form = _FORM.fullmatch(text)
    try:
        if form is None:
            raise ValueError("it is of another form")
        whole = datetime.fromisoformat(form[1]).replace(tzinfo=UTC)
    except ValueError as error:
        raise StoreError(f"time {text!r} is not YYYY-MM-DDTHH:MM:SSZ: {error}") from error
    since = whole - _EPOCH
    seconds = since.days * 86_400 + since.seconds
    return seconds * 1_000_000_000 + int((form[2] or "").ljust(9, "0"))
