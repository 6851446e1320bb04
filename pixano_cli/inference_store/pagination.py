"""Which page is asked for of what is found, with the defaults."""

from __future__ import annotations

from typing import NamedTuple

from pixano_cli.errors import StoreError
from pixano_cli.inference_store.models import (
    Pagination,
    PaginationSortDirection,
    PaginationSortField,
)

DEFAULT_LIMIT = 50

LARGEST_INT = 2**63 - 1
"""The largest integer that every database holds."""


class Page(NamedTuple):
    """A part of what passes, in order of a field."""

    field: str
    is_descending: bool
    limit: int
    offset: int

    @property
    def end(self) -> int:
        """How many pass up to the last one of the page."""
        return self.limit + self.offset


def read_page(pagination: Pagination | None) -> Page:
    """Return what the pagination asks for, with the defaults.

    Raises:
        StoreError: If limit or offset is negative.
    """
    asked = pagination or Pagination()
    limit = DEFAULT_LIMIT if asked.limit is None else asked.limit
    offset = asked.offset or 0
    if limit < 0 or offset < 0:
        raise StoreError(f"limit {limit} and offset {offset}: neither can be negative")
    return Page(
        str(PaginationSortField.CREATED_AT.value if asked.sort is None else asked.sort),
        asked.direction == PaginationSortDirection.DESCENDING,
        min(limit, LARGEST_INT),
        min(offset, LARGEST_INT),
    )
