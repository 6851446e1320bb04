"""What a job would do, told without doing it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pixano_cli.annotate.estimate import estimate, sample
from pixano_cli.annotate.event_loop import run_to_end
from pixano_cli.annotate.job import Command, files_of, plan, price_of
from pixano_cli.annotate.outputs import plan_outputs
from pixano_cli.annotate.plan import items_of
from pixano_cli.annotate.prices import Price
from pixano_cli.annotate.providers import provider_of, remind
from pixano_cli.annotate.settings import LOCAL, Settings
from pixano_cli.annotate.summary import MaxFailures
from pixano_cli.annotate.task import Asking
from pixano_cli.inference.check import Grounds
from pixano_cli.inference_store import ledger
from pixano_cli.inference_store.database import Store, open_store, store_exists


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would do.

    Attributes:
        task: Name of the command.
        model: Name of the model.
        provider: Name of the provider.
        total: Number of files.
        cached: Files that the record answers already.
        thing: What the files are: "image" or "video".
        requests: Requests to a server, about; None where none is asked.
        tokens: Tokens sent and answered, estimated; None if the model uses none.
        cost: What they cost in US dollars; None if no price is known.
    """

    task: str
    model: str
    provider: str
    total: int
    cached: int
    thing: str = "image"
    requests: int | None = None
    tokens: tuple[int, int] | None = None
    cost: float | None = None

    @property
    def pending(self) -> int:
        """Files that the model would be asked about."""
        return self.total - self.cached

    def to_dict(self) -> dict[str, Any]:
        """Convert to the object that `--dry-run --json` prints."""
        told: dict[str, Any] = {
            "task": self.task,
            "model": self.model,
            "provider": self.provider,
            "total": self.total,
            "cached": self.cached,
            "pending": self.pending,
        }
        if self.requests is not None:
            told["requests"] = self.requests
        if self.tokens is not None:
            told["tokens"] = {"prompt": self.tokens[0], "completion": self.tokens[1]}
            told["cost"] = None if self.cost is None else round(self.cost, 6)
        return told


def forecast(
    sources: Sequence[str], outputs: Sequence[str | Path], settings: Settings, command: Command
) -> Forecast:
    """Tell what `execute` would do, without doing or writing anything.

    Raises:
        PixanoAnnotateError: Where `execute` would, before its first inference.
    """
    MaxFailures.parse(settings.max_failures)
    planned = plan_outputs(outputs, settings.format, command.format_of)
    files = files_of(sources, settings, planned, command.discover)

    async def look() -> Forecast:
        provider = provider_of(settings)
        try:
            remind(provider, settings)
            if isinstance(provider, Grounds):
                provider.assume()
            assignment = await command.assign(provider)
        finally:
            await provider.aclose()
        task = assignment.task
        price = price_of(settings, task)
        items = items_of(files, assignment.prompts)
        store = open_store(settings.store) if store_exists(settings.store) else None
        total = cached = 0

        def pending() -> Iterator[ledger.Item]:
            nonlocal total, cached
            for page, recorded in plan(store, items, settings, assignment.product):
                total += len(page)
                cached += len(recorded)
                yield from (item for item in page if item.file_name not in recorded)

        try:
            some = sample(pending())
            told = _forecast(task, price, total, cached, some, store)
            return replace(told, thing=command.thing)
        finally:
            if store:
                store.close()

    return run_to_end(look())


def _forecast(
    task: Asking,
    price: Price | None,
    total: int,
    cached: int,
    some: Sequence[ledger.Item],
    store: Store | None,
) -> Forecast:
    last = task.requests[-1]
    is_remote = last.provider != LOCAL
    pending = total - cached
    tokens = cost = None
    used = [each for request in task.requests if (each := estimate(request, some, store))]
    if used:
        usage = {
            name: round(pending * sum(each[name] for each in used))
            for name in ("prompt_tokens", "completion_tokens")
        }
        tokens = usage["prompt_tokens"], usage["completion_tokens"]
        cost = price.of(usage) if price else None
    return Forecast(
        task=task.name,
        model=last.model,
        provider=last.provider,
        total=total,
        cached=cached,
        requests=pending * len(task.requests) if is_remote else None,
        tokens=tokens,
        cost=cost,
    )
