"""Writing records as files: those of any models that pass filters, in every format.

Unlike the export of a run this is of whatever the store holds, however it came there: an image
is in the outputs for the records about it, and not because a run was given it.
"""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import IO, Any, TypeVar

import orjson
from sqlalchemy import ColumnElement, Connection, and_, false, func, or_, select

from pixano_cli import __version__, formats
from pixano_cli.annotate.job import StoppedError, until_stopped
from pixano_cli.annotate.outputs import (
    Output,
    failure_line,
    plan_outputs,
    write_failed,
    write_run_file,
)
from pixano_cli.annotate.record_files import Failed, RecordFiles
from pixano_cli.annotate.record_products import (
    RecordProduct,
    RecordVectors,
    asked,
    is_drawn,
    is_vector,
    record_images,
)
from pixano_cli.annotate.selection import Filters, read_filters, read_models
from pixano_cli.annotate.settings import Settings
from pixano_cli.annotate.summary import MaxFailures, Summary
from pixano_cli.errors import UsageError
from pixano_cli.formats.atomic import replacing
from pixano_cli.formats.text import portable
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.archive import write_archive
from pixano_cli.inference_store.connection import blobs_of
from pixano_cli.inference_store.database import Store, open_store
from pixano_cli.inference_store.filters import selected
from pixano_cli.inference_store.ledger import Failure
from pixano_cli.inference_store.models import BaseInferenceFilter

T = TypeVar("T")

ARCHIVE = "archive"
"""The format of `.zip` outputs: records of every kind with their inputs, see `archive`."""

logger = logging.getLogger(__name__)

_table = schema.inferences


def export_records(
    outputs: Sequence[str | Path],
    *,
    store: str | Path | None = None,
    model_id: str | Sequence[str] = (),
    filters: BaseInferenceFilter | Filters | None = None,
    threshold: float | None = None,
    classes: Sequence[str] | None = None,
    categories: str | Path | None = None,
    format: str | None = None,  # noqa: A002 - the option's name
    max_failures: str | int = 0,
    stop: threading.Event | None = None,
) -> Summary:
    """Write the records that pass filters, in any format.

    Boxes and masks become annotated images, an image a file with the annotations of all records
    about it. Where only vectors are selected, vectors are written. What else there is (classes
    of whole images, answers without a list) is left out, and this is logged; an archive, `.zip`,
    holds it all. A file whose size nothing tells, or with an element that is not of its task's
    form, has failed: it is in `OUTPUT.failed.jsonl` and in no other output.

    Args:
        outputs: The files to write; their suffixes choose the formats.
        store: The inference store; None for PIXANO_STORE, else .pixano-annotate.
        model_id: The models; none named means all.
        filters: Which of their records, as the store or as the command line takes them; None for
            all. They choose records, with all of their annotations; `threshold` and `classes`
            choose among those.
        threshold: Lowest score to write; None for whatever is recorded.
        classes: Which classes to write; None for all.
        categories: A file with the label set to write.
        format: Format of the outputs, whatever their suffixes.
        max_failures: How many files may fail: N or P%.
        stop: Once set, nothing more is written.

    Raises:
        UsageError: If a model is not registered, or what is selected has no such format.
        StoppedError: If it was stopped.
        OutputError: If an output cannot be written.
        StoreError: If a filter's value is not what its kind takes, or the store or the storage
            of inputs fails.
    """
    started = monotonic()
    allowed = MaxFailures.parse(max_failures)
    Settings(threshold=threshold, classes=classes)
    planned = plan_outputs(outputs, format, _format_of)
    # One connection to the end: it sees nothing of what is stored meanwhile.
    with open_store(store, create=False) as opened, opened.read() as connection:
        named = [model_id] if isinstance(model_id, str) else [*model_id]
        if isinstance(filters, Filters):
            named += filters.model_id
            filters = read_filters(filters, opened)
        filters = filters or BaseInferenceFilter()
        models = read_models(opened, named)
        chosen = or_(false(), *(selected(each, filters) for each in models))
        export = _Export(opened, connection, chosen, stop or threading.Event())
        archives = [each for each in planned if each.format == ARCHIVE]
        written = [each for each in planned if each.format != ARCHIVE]
        counts = _Counts()
        for output in archives:
            counts = export.archive(output)
        provenance: dict[str, Any] = {}
        if written or not archives:
            product = export.product(written, threshold, classes, categories)
            provenance = export.provenance(product)
            counts = export.write(written, product, provenance)
        found, _ = asked(connection, chosen)
        summary = Summary(
            task="export",
            model=", ".join(found),
            provider="store",
            total=counts.images + counts.failed,
            processed=0,
            cached=counts.images,
            failed=counts.failed,
            empty=counts.empty,
            annotations=counts.annotations,
            seconds=monotonic() - started,
            outputs=tuple(str(output.path) for output in planned),
            allowed=allowed.allows(counts.failed, counts.images + counts.failed),
        )
        for output in planned:
            write_run_file(
                output,
                {
                    "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
                    "output": portable(str(output.path.absolute())),
                    "store": portable(opened.location),
                    "models": found,
                    "filters": filters.model_dump(mode="json", exclude_none=True),
                    "summary": summary.to_dict(),
                    "provenance": provenance,
                },
            )
    return summary


@dataclass(slots=True)
class _Counts:
    """What an output holds, and how many files could not be written."""

    images: int = 0
    empty: int = 0
    annotations: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class _Export:
    """The records to export, and the one state of the store in which they are looked at."""

    store: Store
    connection: Connection
    chosen: ColumnElement[bool]
    stop: threading.Event

    def archive(self, output: Output) -> _Counts:
        """Write all records as an archive."""

        def advance(_: int) -> None:
            if self.stop.is_set():
                raise StoppedError(f"stopped before {output.path} was written")

        with replacing(output.path) as temporary:
            archived = write_archive(
                temporary,
                self.connection,
                self.chosen,
                blobs_of(self.store),
                annotations=True,
                metadata=True,
                advance=advance,
            )
        if archived.missing:
            logger.warning(
                "%s: %d of %d files are in it without their inputs, which are gone; the first is "
                "%s",
                output.path,
                archived.missing,
                archived.files,
                archived.first_missing,
            )
        return _Counts(archived.files, archived.empty, archived.annotations)

    def product(
        self,
        outputs: Sequence[Output],
        threshold: float | None,
        classes: Sequence[str] | None,
        categories: str | Path | None,
    ) -> RecordProduct[Any]:
        """Choose what the outputs hold, and say what they do not."""
        if not self._is_any(is_drawn) and self._is_any(is_vector):
            given = {"--threshold": threshold, "--classes": classes, "--categories": categories}
            for option, value in given.items():
                if value is not None:
                    raise UsageError(f"{option}: only vectors are selected, which have none")
            for output in outputs:
                formats.embedding_format_of(output.path, output.format)
            models, _ = asked(self.connection, self._of(is_vector))
            if len(models) > 1:
                raise UsageError(
                    f"vectors of {' and '.join(models[:3])} are selected, and a file holds those "
                    "of one model: name one with --model-id"
                )
            self._tell_left_out(is_vector)
            return RecordVectors(self._files(is_vector))
        self._tell_left_out(is_drawn)
        return record_images(
            self._files(is_drawn), threshold=threshold, classes=classes, categories=categories
        )

    def provenance(self, product: RecordProduct[Any]) -> dict[str, Any]:
        """Return what every output says about where it comes from: no time, no path, no host."""
        models, keys = asked(self.connection, product.condition)
        requests = schema.requests
        known: dict[str | None, Any] = {}
        for start in range(0, len(keys), 500):
            some = requests.c.request_key.in_(keys[start : start + 500])
            for row in self.connection.execute(select(requests).where(some)):
                known[row.request_key] = orjson.loads(row.request)
        return {
            "description": "Pre-annotations kept by pixano-annotate",
            "version": __version__,
            "task": "export",
            **product.provenance(),
            "models": models,
            "requests": [known[key] for key in keys if key in known],
        }

    def write(
        self, outputs: Sequence[Output], product: RecordProduct[T], provenance: dict[str, Any]
    ) -> _Counts:
        """Write every output, beside it its failures, and count what is in them."""
        counts = _Counts()
        with tempfile.TemporaryFile() as failures:
            for output in outputs:
                counts = _Counts()
                images = self._counted(product, counts, failures)
                product.write(output, images, provenance)
            if not outputs:
                for _ in self._counted(product, counts, failures):
                    pass
            for output in outputs:
                failures.seek(0)
                write_failed(output, failures)
        return counts

    def _counted(
        self, product: RecordProduct[T], counts: _Counts, failures: IO[bytes]
    ) -> Iterator[T]:
        failures.seek(0)
        failures.truncate()
        for image in until_stopped(product.images(), self.stop):
            if isinstance(image, Failed):
                counts.failed += 1
                failure = Failure("export", image.error_class, image.message)
                failures.write(failure_line(image.name, failure))
                continue
            annotations = product.annotations(image)
            counts.images += 1
            counts.empty += not annotations
            counts.annotations += annotations
            yield image

    def _tell_left_out(self, kept: ColumnElement[bool]) -> None:
        query = (
            select(_table.c.task_type, func.count())
            .where(self.chosen, ~kept)
            .group_by(_table.c.task_type)
        )
        for task, count in sorted(self.connection.execute(query), key=lambda row: str(row[0])):
            logger.warning(
                "%d records of %s are left out, for they have neither box nor mask to write: an "
                "archive (-o FILE.zip) holds them",
                count,
                task,
            )

    def _is_any(self, kind: ColumnElement[bool]) -> bool:
        query = select(_table.c.id).where(self._of(kind)).limit(1)
        return self.connection.execute(query).first() is not None

    def _files(self, kind: ColumnElement[bool]) -> RecordFiles:
        return RecordFiles(self.store, self.connection, self._of(kind))

    def _of(self, kind: ColumnElement[bool]) -> ColumnElement[bool]:
        return and_(self.chosen, kind)


def _format_of(path: Path, override: str | None) -> str:
    """Return the name of the format to write `path` in, which may be an archive."""
    if override == ARCHIVE or (override is None and path.suffix.lower() == ".zip"):
        return ARCHIVE
    try:
        return formats.format_of(path, override)
    except UsageError as error:
        raise UsageError(f"{error}; .zip ({ARCHIVE}) holds records with their inputs") from error
