"""Errors that the databases of a store have in common."""

from __future__ import annotations

from pixano_cli.errors import StoreError


class UnstorableError(StoreError):
    """A value that databases cannot hold; the store itself is sound, and takes others."""


class LockedError(StoreError):
    """Another process has been writing for too long."""

    def __init__(self, name: str, waited_s: float) -> None:
        """Say which store, and for how many seconds."""
        super().__init__(
            f"store {name} is locked by another process for more than {waited_s:g} s: "
            "run the same command again when it is done; what was recorded is kept"
        )


class WrongArgumentError(StoreError, TypeError):
    """A function is given an argument of another type than it takes."""
