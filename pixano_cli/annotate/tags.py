"""Metadata as people write it: KEY=VALUE, or KEY:TYPE=VALUE."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pixano_cli.errors import StoreError, UsageError

if TYPE_CHECKING:
    from pixano_cli.inference_store.models import Metadata

_FORM = re.compile(r"(?P<key>[^=]+?)(?::(?P<type>string|int|float|json))?=(?P<value>.*)", re.DOTALL)


def read_tags(setting: Sequence[str], unsetting: Sequence[str]) -> tuple[list[Metadata], list[str]]:
    """Read what is to be attached, each as `read_tag` does, and the keys that are to be removed.

    Raises:
        UsageError: If one cannot be read, or a key is named twice.
    """
    added, removed = [read_tag(text) for text in setting], [_read_key(key) for key in unsetting]
    named: dict[str, str] = {}
    given = [("--set", each.key) for each in added] + [("--unset", key) for key in removed]
    for option, key in given:
        if key in named:
            raise UsageError(f"{option}: key {key!r} is named twice, by {named[key]} before")
        named[key] = option
    return added, removed


def _read_key(text: str) -> str:
    from pixano_cli.inference_store import values

    key = text.strip()
    if not key:
        raise UsageError(f"--unset {text!r}: a key is wanted")
    try:
        return values.check_name("key", key)
    except StoreError as error:
        raise UsageError(f"--unset: {error}") from error


def read_tag(text: str) -> Metadata:
    """Read KEY=VALUE as metadata, of the type that the value looks like unless one is said.

    Raises:
        UsageError: If it is not of the form, the value not of the type, or not to be stored.
    """
    from pixano_cli.inference_store import values
    from pixano_cli.inference_store.metadata import check_metadata
    from pixano_cli.inference_store.models import Metadata

    form = _FORM.fullmatch(text)
    if form is None or not form["key"].strip():
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
