"""The options of all commands that ask a model about images.

A command takes them by one parameter, `run: Run`, and `@running`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pixano_cli.cli import console, options
from pixano_cli.cli.signature import Option, in_place_of

if TYPE_CHECKING:
    from pixano_cli.annotate.job import Command
    from pixano_cli.annotate.settings import Settings

T = TypeVar("T")

_SETTINGS: Mapping[str, Option] = {
    "recursive": Option(options.Recursive, True),
    "provider": Option(options.Provider, "local"),
    "url": Option(options.Url),
    "api_key_file": Option(options.ApiKeyFile),
    "batch_size": Option(options.BatchSize),
    "concurrency": Option(options.Concurrency),
    "rpm": Option(options.Rpm),
    "tpm": Option(options.Tpm),
    "timeout": Option(options.Timeout, 600.0),
    "max_side": Option(options.MaxSide),
    "box_format": Option(options.BoxFormat),
    "dialect": Option(options.Dialect),
    "time_limit": Option(options.TimeLimit),
    "max_cost": Option(options.MaxCost),
    "prices": Option(options.Prices),
    "device": Option(options.Device, "cpu"),
    "store": Option(options.StoreFolder),
    "overwrite": Option(options.Overwrite, False),
    "checksum": Option(options.Checksum, False),
    "max_failures": Option(options.MaxFailures, "0"),
}
_SHOWN: Mapping[str, Option] = {
    "dry_run": Option(options.DryRun, False),
    "as_json": Option(options.Json, False),
    "verbose": Option(options.Verbose, False),
    "quiet": Option(options.Quiet, False),
    # The application looks for it by itself.
    "debug": Option(options.Debug, False),
}


@dataclass(frozen=True, slots=True)
class Run:
    """How a job is to be run.

    Attributes:
        settings: What of `Settings` the options say, by name.
        dry_run: Whether only to tell what would be done.
        verbosity: What to print.
    """

    settings: Mapping[str, Any]
    dry_run: bool
    verbosity: console.Verbosity

    def job(
        self,
        sources: Sequence[str],
        outputs: Sequence[Path],
        settings: Settings,
        command: Command,
    ) -> int:
        """Run a job, or forecast it, and return the exit code."""
        return console.run_job(sources, outputs, settings, command, self.dry_run, self.verbosity)


def running(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command the options of all runs in place of its parameter `run`."""
    return running_but()(command)


def running_but(*left_out: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Give a command the other options of runs in place of its parameter `run`."""
    taken = {name: each for name, each in _SETTINGS.items() if name not in left_out}
    return partial(in_place_of, "run", {**taken, **_SHOWN}, _run)


def _run(
    *, dry_run: bool, as_json: bool, verbose: bool, quiet: bool, debug: bool, **settings: Any
) -> Run:
    return Run(settings, dry_run, console.Verbosity(as_json, verbose, quiet))
