"""Planning: which files there are, and which of them the record answers already."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from pixano_cli.annotate.outputs import Product
from pixano_cli.errors import UsageError
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.ledger import Item, recall_digests
from pixano_cli.media.discover import SourceFile
from pixano_cli.media.flight import url_of

logger = logging.getLogger(__name__)

PAGE = 500

ItemPrompts = Mapping[str, str]
"""The prompts of files by their names, as the JSON text that is kept with an item."""

NO_PROMPTS = "[]"


def items_of(files: Iterable[SourceFile], prompts: ItemPrompts | None) -> Iterator[Item]:
    """Turn files into items, with their prompts where a file of prompts was given.

    Raises:
        UsageError: If there are prompts and none of them is for one of the files.
    """
    if prompts is not None:
        files = list(files)
        absent = prompts.keys() - {file.file_name for file in files}
        if prompts and len(absent) == len(prompts):
            raise UsageError(
                f"none of the {len(prompts)} files with prompts is among the sources: names are "
                f"relative to the source's folder ({next(iter(prompts))!r} is one of them)"
            )
        if absent:
            logger.warning(
                "%d of the %d files with prompts are not among the sources (%r is one)",
                len(absent),
                len(prompts),
                min(absent),
            )
    return (_item(file, prompts) for file in files)


def plan_pages(
    store: Store | None,
    product: Product[Any],
    items: Iterator[Item],
    *,
    again: bool,
    checksum: bool,
) -> Iterator[tuple[list[Item], set[str]]]:
    """Yield the items a page at a time, with the names of those that need not be asked about.

    Args:
        store: The record; None if there is none yet.
        product: What the outputs hold.
        items: The files.
        again: Whether recorded answers are asked for again.
        checksum: Whether a file's digest is taken from its bytes even if it has not changed.
    """
    while page := list(islice(items, PAGE)):
        if store is None or checksum:
            yield page, set()
            continue
        page = recall_digests(store, page)
        yield page, set() if again else product.recorded(store, page)


def _item(file: SourceFile, prompts: ItemPrompts | None) -> Item:
    item = Item(file.file_name, file.root, url_of(file.path), file.size, file.mtime_ns)
    if prompts is None:
        return item
    return replace(item, prompts=prompts.get(file.file_name, NO_PROMPTS))
