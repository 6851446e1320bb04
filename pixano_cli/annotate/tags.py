"""Metadata as people write it: KEY=VALUE, or KEY:TYPE=VALUE."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pixano_cli.errors import StoreError, UsageError

if TYPE_CHECKING:
    from pixano_cli.inference_store.models import Metadata

_FORM = re.compile(r"(?P<key>[^=]+?)(?::(?P<type>string|int|float|json))?=(?P<value>.*)", re.DOTALL)


def read_tag(text: str) -> Metadata:
    """Read KEY=VALUE as metadata, of the type that the value looks like unless one is said.

    Raises:
        UsageError: If it is not of the form, the value not of the type, or not to be stored.
    """
    from pixano_cli.inference_store import values
    from pixano_cli.inference_store.metadata import check_metadata
    from pixano_cli.inference_store.models import Metadata

    form = _FORM.fullmatch(text)
    if form is None:
        raise UsageError(f"--set {text!r}: KEY=VALUE or KEY:TYPE=VALUE is wanted")
    key, kind, value = form["key"].strip(), form["type"], form["value"]
    if kind is None:
        looks = ("int", "float")
        kind = next((each for each in looks if values.read(each, value) is not None), "string")
    try:
        check_metadata(key, value)
    except StoreError as error:
        raise UsageError(f"--set: {error}") from error
    if not values.is_of(kind, value):
        raise UsageError(f"--set {text!r}: the value is no {kind}")
    return Metadata(key=key, type=kind, value=value)
