"""A whole job, from sources to outputs: the order of things, the same for every command."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import Any, Protocol, TypeVar
from uuid import uuid4

from pixano_cli import __version__, formats
from pixano_cli.annotate.event_loop import run_to_end
from pixano_cli.annotate.identity import canonical_json
from pixano_cli.annotate.limits import Limits
from pixano_cli.annotate.outputs import (
    FormatOf,
    Output,
    Product,
    listed,
    plan_outputs,
    write_failures,
    write_outputs,
    write_run_file,
)
from pixano_cli.annotate.plan import ItemPrompts, items_of, plan_pages
from pixano_cli.annotate.prices import Price, find_price
from pixano_cli.annotate.providers import provider_of, remind
from pixano_cli.annotate.run import Progress, run_items
from pixano_cli.annotate.settings import Settings
from pixano_cli.annotate.summary import MaxFailures, Summary
from pixano_cli.annotate.task import STORED_AS, Asking, stored_model
from pixano_cli.errors import PixanoAnnotateError, StoreError, UsageError
from pixano_cli.formats.text import portable
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference_store import ledger, runs
from pixano_cli.inference_store.database import Store, open_store
from pixano_cli.inference_store.register import check_task, put_model
from pixano_cli.media.discover import SourceFile, discover

T = TypeVar("T")

# How soon a run stops that has not asked for any image yet.
_LOOK_EVERY_S = 0.1


class StoppedError(PixanoAnnotateError):
    """A run was asked to stop before its end; what it had recorded is kept."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a command makes of its options and of a provider.

    Attributes:
        task: What is asked about every file.
        product: What the outputs hold.
        prompts: The prompts of each file by its name, as text; None where a detector gives them.
    """

    task: Asking
    product: Product[Any]
    prompts: ItemPrompts | None = None


class Silence:
    """Progress that nobody is told of."""

    def start(self, total: int, cached: int) -> None:
        """Do nothing."""

    def advance(self, outcome: ledger.Outcome) -> None:
        """Do nothing."""

    def resume(self, item: ledger.Item, frame: int) -> None:
        """Do nothing."""

    def part(self, item: ledger.Item, frame: int, of: int | None) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""


VIDEO = "video"

Assign = Callable[[InferenceProvider], Awaitable[Assignment]]


class Discover(Protocol):
    """Finds the files of sources; see `media.discover.discover`."""

    def __call__(self, sources: Sequence[str], *, recursive: bool) -> Iterator[SourceFile]: ...


class RunItems(Protocol):
    """Does the pending items of a run; see `run.run_items`."""

    def __call__(
        self,
        task: Any,
        store: Store,
        run_id: str,
        *,
        concurrency: int,
        again: bool,
        stop: threading.Event,
        limits: Limits,
        progress: Progress,
        hold_back: Callable[[], None],
        order: ledger.Order,
    ) -> Awaitable[None]: ...


@dataclass(frozen=True, slots=True)
class Command:
    """A command with its options.

    Attributes:
        assign: Makes what is to be done, given the provider.
        format_of: Chooses among the formats that can hold what it writes.
        discover: Finds what it is about; None for images.
        run: Does it; None for images.
        thing: What it is about: "image" or "video".
        beside: Writes what comes beside the outputs of a run, and returns its files.
    """

    assign: Assign
    format_of: FormatOf = formats.format_of
    discover: Discover | None = None
    run: RunItems | None = None
    thing: str = "image"
    beside: Callable[[Store, str, Any], Sequence[Path]] | None = None


def execute(
    sources: str | Path | Sequence[str | Path],
    outputs: str | Path | Sequence[str | Path],
    settings: Settings,
    command: Command,
    *,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Summary:
    """Annotate the sources and write the outputs.

    Args:
        sources: Files, folders, globs, or `-` for a list on standard input; one or several.
        outputs: The files to write, or one alone.
        settings: How.
        command: What to do.
        progress: Told of every file.
        stop: Once set, the run ends as soon as what is in flight is recorded.

    Raises:
        PixanoAnnotateError: If the job cannot be begun or ended; `StoppedError` if it was stopped.
    """
    started = monotonic()
    stop = stop or threading.Event()
    progress = progress or Silence()
    max_failures = MaxFailures.parse(settings.max_failures)
    planned = plan_outputs(outputs, settings.format, command.format_of)
    named = [str(source) for source in listed(sources)]
    files = files_of(named, settings, planned, command.discover)

    async def annotate() -> Summary:
        provider = provider_of(settings)
        try:
            remind(provider, settings)
            assignment = await _unless_stopped(command.assign(provider), stop)
            limits = limits_of(settings, assignment.task)
            items = items_of(files, assignment.prompts)
            with open_store(settings.store) as store:
                run_id, order = _begin(store, named, settings, assignment, planned)
                total = cached = 0
                for page, recorded in plan(store, items, settings, assignment.product):
                    _check(stop)
                    with store.write() as connection:
                        ledger.add_items(connection, run_id, page, recorded)
                    total += len(page)
                    cached += len(recorded)
                progress.start(total, cached)
                try:
                    if total > cached:
                        run: RunItems = command.run or run_items
                        await run(
                            assignment.task,
                            store,
                            run_id,
                            concurrency=settings.workers,
                            again=settings.overwrite,
                            stop=stop,
                            limits=limits,
                            progress=progress,
                            hold_back=provider.hold_back,
                            order=order,
                        )
                finally:
                    progress.stop()
                return _conclude(
                    store,
                    run_id,
                    command,
                    assignment,
                    planned,
                    total,
                    started,
                    max_failures,
                    stop,
                    limits,
                )
        finally:
            await provider.aclose()

    return run_to_end(annotate())


def provenance(
    task_name: str, product: Product[Any], requests: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what every output says about where it comes from: no time, no path, no host."""
    return {
        "description": "Pre-annotations made by pixano-annotate",
        "version": __version__,
        "task": task_name,
        **product.provenance(),
        "requests": list(requests),
    }


def files_of(
    sources: Sequence[str],
    settings: Settings,
    outputs: Sequence[Output],
    find: Discover | None,
) -> Iterator[SourceFile]:
    """Return the files of the sources, of which there is at least one, and none is an output.

    Raises:
        UsageError: If there is none, or, while they are looked at, if one is an output.
    """
    if not sources:
        raise UsageError("no source: name a file, a folder, a glob, or - for a list on stdin")
    files = (find or discover)(sources, recursive=settings.recursive)
    first = next(files, None)
    if first is None:
        raise UsageError(f"no images in {', '.join(map(str, sources))}")
    return _not_written(chain([first], files), outputs)


def _not_written(files: Iterator[SourceFile], outputs: Sequence[Output]) -> Iterator[SourceFile]:
    """Yield the files, none of which is to be replaced by an output."""
    written = {
        each for output in outputs for each in (output.path.absolute(), output.path.resolve())
    }
    for file in files:
        if file.path in written:
            raise UsageError(f"output {file.path} is one of the sources: name another file")
        yield file


def price_of(settings: Settings, task: Asking) -> Price | None:
    """Return what the tokens of a job cost; None if that is not known.

    Raises:
        UsageError: If it is not known, and the job is not to cost too much.
    """
    last = task.requests[-1]
    price = find_price(last.provider, last.model, settings.prices)
    if price is None and settings.max_cost is not None:
        raise UsageError(
            f"--max-cost: no price is known for {last.provider}'s {last.model}: "
            "give it with --prices"
        )
    return price


def limits_of(settings: Settings, task: Asking) -> Limits:
    """Return how far a job may go.

    Raises:
        UsageError: If it is not to cost too much, and no price is known.
    """
    return Limits(price_of(settings, task), max_cost=settings.max_cost, seconds=settings.time_limit)


def _begin(
    store: Store,
    sources: Sequence[str],
    settings: Settings,
    assignment: Assignment,
    outputs: Sequence[Output],
) -> tuple[str, ledger.Order]:
    """Record that the run begins; return its id, and in which order it is to go."""
    task = assignment.task
    run_id = uuid4().hex
    requests = [request.to_dict() for request in task.requests]
    roots = sorted(source if source == "-" else _absolute(Path(source)) for source in sources)
    job_key = hashlib.sha256(
        canonical_json([roots, [request.key for request in task.requests], task.name])
    ).hexdigest()
    job = {
        "task": task.name,
        "sources": roots,
        "outputs": [_absolute(output.path) for output in outputs],
        **assignment.product.to_dict(),
        "requests": requests,
    }
    with store.write() as connection:
        order = runs.free_order(connection)
        runs.begin_run(connection, run_id, job_key, {**job, "order": order})
        for model in task.registrations:
            put_model(connection, model)
        for request in task.requests:
            # Of a model that is registered with its first answer, which is paid for by then.
            check_task(connection, stored_model(request), STORED_AS[request.task][0])
        for request in task.requests:
            runs.keep_request(connection, request.key, request.to_dict())
    return run_id, order


def _absolute(path: Path) -> str:
    return portable(str(path.absolute()))


def plan(
    store: Store | None,
    items: Iterator[ledger.Item],
    settings: Settings,
    product: Product[Any],
) -> Iterator[tuple[list[ledger.Item], set[str]]]:
    """Yield the items a page at a time, with the names of those that the record answers."""
    return plan_pages(store, product, items, again=settings.overwrite, checksum=settings.checksum)


def until_stopped(images: Iterator[T], stop: threading.Event) -> Iterator[T]:
    """Yield the images of an output, which is not to be written any more once `stop` is set.

    Raises:
        StoppedError: If it is.
    """
    for image in images:
        _check(stop, " before the outputs were written")
        yield image


async def _unless_stopped(work: Awaitable[T], stop: threading.Event) -> T:
    """Return what comes of the work, which is given up once `stop` is set.

    Raises:
        StoppedError: If it is.
    """
    working = asyncio.ensure_future(work)
    while not working.done():
        if stop.is_set():
            working.cancel()
            await asyncio.wait([working])
            _check(stop)
        await asyncio.wait([working], timeout=_LOOK_EVERY_S)
    return working.result()


def _check(stop: threading.Event, done: str = "") -> None:
    if stop.is_set():
        raise StoppedError(f"stopped{done}: run the same command again to go on from there")


def _conclude(
    store: Store,
    run_id: str,
    command: Command,
    assignment: Assignment,
    outputs: Sequence[Output],
    total: int,
    started: float,
    max_failures: MaxFailures,
    stop: threading.Event,
    limits: Limits,
) -> Summary:
    task, product = assignment.task, assignment.product
    counts = ledger.count_items(store, run_id)
    done = f"{total - counts['pending']} of {total} files done"
    _check(stop, f" with {done}")
    if counts["pending"] and limits.reason is not None:
        raise StoppedError(f"{limits.reason}; {done}: run the same command again to go on")

    origin = provenance(task.name, product, [each.to_dict() for each in task.requests])
    written = write_outputs(
        outputs, product, lambda: until_stopped(product.images(store, run_id), stop), origin
    )
    if written.files + counts["failed"] != total:
        raise StoreError(
            f"store {store.name}: {total - written.files - counts['failed']} of {total} answers "
            "were removed meanwhile: run the same command again"
        )
    write_failures(outputs, store, run_id)
    beside = command.beside(store, run_id, product) if command.beside else ()
    summary = Summary(
        task=task.name,
        model=task.requests[-1].model,
        provider=task.requests[-1].provider,
        total=total,
        processed=counts["processed"],
        cached=counts["cached"],
        failed=counts["failed"],
        empty=written.empty,
        annotations=written.annotations,
        seconds=monotonic() - started,
        outputs=tuple(str(path) for path in (*(each.path for each in outputs), *beside)),
        allowed=max_failures.allows(counts["failed"], total),
        tokens=(limits.prompt_tokens, limits.completion_tokens) if limits.tokens else None,
        cost=limits.cost,
        frames=written.images if command.thing == VIDEO else None,
    )
    with store.write() as connection:
        runs.finish_run(connection, run_id, summary.to_dict())
    for output in outputs:
        write_run_file(
            output,
            {
                "run_id": run_id,
                "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "output": _absolute(output.path),
                "store": portable(store.location),
                "summary": summary.to_dict(),
                "provenance": origin,
            },
        )
    return summary
