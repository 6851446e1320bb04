"""Images that are the same, or nearly so: by the sha256 of their content, and by their vectors.

Images are joined into groups wherever two are near enough, so a group may be a chain whose ends
are farther apart. Vectors of a model are only compared with those that it was asked for in the
same way: of other weights under the same name they mean something else.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from sqlalchemy import ColumnElement, Connection, func, select

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.components import DisjointSets, cosine_distances, join_near
from pixano_cli.inference_store.copies import CONTENTS_A_STATEMENT, Copy, read_copies
from pixano_cli.inference_store.database import STREAMED, Store
from pixano_cli.inference_store.distances import Singles, directions
from pixano_cli.inference_store.filters import selected
from pixano_cli.inference_store.models import BaseInferenceFilter
from pixano_cli.inference_store.register import registered
from pixano_cli.inference_store.vector_file import Integers
from pixano_cli.inference_store.vectors import doubles, streamed

_table, _embeddings, _files = schema.inferences, schema.embeddings, schema.files
_joined = _embeddings.join(_table, _table.c.id == _embeddings.c.inference)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A file of a group.

    Attributes:
        copy: The file.
        distance: Cosine distance of its vector to that of the first of the group; None if they
            were not asked for in the same way, and others hold the group together.
    """

    copy: Copy
    distance: float | None


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What was found.

    Attributes:
        images: How many different contents were compared.
        groups: The groups, each of two files or more, in the order of when they were recorded: in
            each, the content recorded first, then the others in the order of distance to it.
    """

    images: int
    groups: list[list[Duplicate]]


@dataclass(frozen=True, slots=True)
class _Vectors:
    """Vectors, in any order.

    Attributes:
        directions: They [n, dim] at length 1.
        inferences: Their rows [n] in the database, which are in the order of being recorded.
        images: Numbers [n] of the contents that they are of.
        requests: Numbers [n] of the ways in which they were asked for.
    """

    directions: Singles
    inferences: Integers
    images: Integers
    requests: Integers


def find_duplicates(
    store: Store,
    model_id: str,
    threshold: float,
    filters: BaseInferenceFilter | None = None,
    *,
    is_gone: Callable[[str], bool] = lambda _: False,
) -> Duplicates:
    """Group the files of the images of which a model's embeddings are recorded.

    Args:
        store: The store.
        model_id: A model that is registered with embeddings.
        threshold: Cosine distance up to which images are near enough: from 0 to under 1.
        filters: Which of its embeddings count.
        is_gone: Tells of a file's URL whether the file is to be left out.

    Raises:
        StoreError: If the threshold is out of range, the model is not registered, a filter is not
            valid, there is no room on disk for the vectors, or the database fails.
    """
    if not 0 <= threshold < 1:
        raise StoreError(f"threshold {threshold}: a distance from 0 to under 1 is wanted")
    asked = selected(model_id, filters or BaseInferenceFilter())
    with store.read() as connection:
        dimension = registered(connection, model_id).embedding_size
        with _read_vectors(connection, store.folder, asked, dimension) as vectors:
            sets = DisjointSets(int(vectors.images.max(initial=-1)) + 1)
            for request in np.unique(vectors.requests):
                rows = np.flatnonzero(vectors.requests == request)
                join_near(vectors.directions, rows, vectors.images[rows], sets, threshold)
            members = _members(connection, asked, vectors, sets)
            groups = [*_groups(connection, vectors, members, is_gone)]
    return Duplicates(sets.size, groups)


@contextmanager
def _read_vectors(
    connection: Connection, folder: Path, asked: ColumnElement[bool], dimension: int
) -> Iterator[_Vectors]:
    """Read the vectors into a file without a name, which leaves memory to those who need it."""
    query = select(_table.c.id, _table.c.data_hash, _table.c.request_key).select_from(_joined)
    query = query.where(asked).order_by(_table.c.data_hash)
    ids, images, requests = array("q"), array("q"), array("q")
    ways: dict[str | None, int] = {}
    last, image = None, -1
    for row in connection.execute(query, execution_options=STREAMED):
        image += row.data_hash != last
        last = row.data_hash
        ids.append(row.id)
        images.append(image)
        requests.append(ways.setdefault(row.request_key, len(ways)))
    by_id = np.argsort(ids)
    found = np.array(ids, np.int64)[by_id]
    read = array("q")
    with TemporaryFile(dir=_made(folder)) as file:
        wanted = select(_table.c.id, _embeddings.c.vector).select_from(_joined).where(asked)
        for rows in streamed(connection, wanted, max(1, dimension)):
            unit, _ = directions(doubles([row.vector for row in rows], dimension))
            try:
                file.write(unit.tobytes())
                file.flush()
            except OSError as error:
                raise StoreError(
                    f"cannot keep the vectors in {folder} meanwhile: {error.strerror}: make room, "
                    "or leave some out by a filter"
                ) from error
            read.extend(row.id for row in rows)
        shape = len(read), dimension
        kept = np.memmap(file, np.float32, "r", shape=shape) if read else np.empty(shape, "f4")
        places = by_id[np.searchsorted(found, read)]
        yield _Vectors(
            kept,
            np.array(read, np.int64),
            np.array(images, np.int64)[places],
            np.array(requests, np.int64)[places],
        )


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make {folder}: {error.strerror}") from error
    return folder


def _members(
    connection: Connection, asked: ColumnElement[bool], vectors: _Vectors, sets: DisjointSets
) -> list[Integers]:
    """Return what may be groups: the vectors of each, those of an image side by side.

    Images and groups are in the order of when they were recorded.
    """
    order = np.argsort(vectors.inferences)
    firsts = np.full(sets.size, np.iinfo(np.int64).max)
    np.minimum.at(firsts, vectors.images, vectors.inferences)
    roots = sets.roots(np.arange(sets.size))
    starts = np.full(sets.size, np.iinfo(np.int64).max)
    np.minimum.at(starts, roots, firsts)
    # Several vectors may be of one image or of several; and an image may be in several files.
    several = np.bincount(roots[vectors.images], minlength=sets.size) > 1
    copied = select(_files.c.sha256).group_by(_files.c.sha256).having(func.count() > 1)
    query = select(_table.c.id).select_from(_joined).where(asked, _table.c.data_hash.in_(copied))
    found = np.fromiter(connection.execute(query).scalars(), np.int64)
    with_copies = order[np.searchsorted(vectors.inferences[order], found)]
    several[roots[vectors.images[with_copies]]] = True
    rows = np.flatnonzero(several[roots[vectors.images]])
    images = vectors.images[rows]
    rows = rows[np.lexsort((vectors.inferences[rows], firsts[images], starts[roots[images]]))]
    ends = np.flatnonzero(np.diff(roots[vectors.images[rows]])) + 1
    return np.split(rows, ends) if len(rows) else []


def _groups(
    connection: Connection,
    vectors: _Vectors,
    members: list[Integers],
    is_gone: Callable[[str], bool],
) -> Iterator[list[Duplicate]]:
    """Yield the groups that are of several files."""
    at = 0
    while at < len(members):
        sizes = np.cumsum([len(each) for each in members[at : at + CONTENTS_A_STATEMENT]])
        end = at + max(1, int(np.searchsorted(sizes, CONTENTS_A_STATEMENT, "right")))
        rows = vectors.inferences[np.concatenate(members[at:end])]
        copies = read_copies(connection, rows.tolist(), is_gone)
        for group in members[at:end]:
            found = _group(vectors, group, copies)
            if len(found) > 1:
                yield found
        at = end


def _group(
    vectors: _Vectors, members: Integers, copies: Mapping[int, list[Copy]]
) -> list[Duplicate]:
    """Return the files of a group in order."""
    images: dict[int, list[int]] = {}
    for member in members.tolist():
        if copies[int(vectors.inferences[member])]:
            images.setdefault(int(vectors.images[member]), []).append(member)
    if not images:
        return []
    first, *others = images.values()
    by_request = {int(vectors.requests[each]): each for each in first}
    ranked: list[tuple[float, list[Copy]]] = []
    for each in others:
        pairs = [
            (by_request[request], member)
            for member in each
            if (request := int(vectors.requests[member])) in by_request
        ]
        distance = math.inf
        if pairs:
            ones, twos = (vectors.directions[list(side)] for side in zip(*pairs, strict=True))
            distance = float(cosine_distances(ones, twos).min())
        ranked.append((distance, copies[int(vectors.inferences[each[0]])]))
    ranked.sort(key=lambda pair: pair[0])
    return [
        Duplicate(copy, None if distance == math.inf else distance)
        for distance, found in [(0.0, copies[int(vectors.inferences[first[0]])]), *ranked]
        for copy in found
    ]
