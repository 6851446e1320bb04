"""What a run prints: progress and notes on standard error, the summary at the end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import orjson
import typer

from pixano_cli.cli import signals

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from pixano_cli.annotate.forecast import Forecast
    from pixano_cli.annotate.job import Command
    from pixano_cli.annotate.settings import Settings
    from pixano_cli.annotate.summary import Summary
    from pixano_cli.inference_store.ledger import Item, Outcome

# Seconds between two lines where there is no terminal to draw a bar on.
LINE_EVERY_S = 10.0
TOO_MANY_FAILURES = 3


@dataclass(frozen=True, slots=True)
class Verbosity:
    """What to print."""

    as_json: bool
    verbose: bool
    quiet: bool


def note(text: str) -> None:
    """Print a line on standard error."""
    typer.echo(text, err=True)


def counted(number: int, thing: str) -> str:
    """Return a number with what is counted: `1 image`, `2 images`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


class Bar:
    """Progress as a bar with rate and time left, on a terminal."""

    def __init__(self, verbose: bool, thing: str) -> None:
        """Prepare; nothing is drawn before `start`. Each file is a `thing`."""
        self._verbose = verbose
        self._thing = thing
        self.first_failure: str | None = None
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._failed = 0

    def start(self, total: int, cached: int) -> None:
        """Draw the bar; the rate counts what is done from now on."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            SpinnerColumn(),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[failed]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("", total=total, completed=cached, rate="", failed="")
        self._started = monotonic()
        self._done = 0
        self._bar.start()

    def advance(self, outcome: Outcome) -> None:
        """Move the bar on by one file."""
        if self._bar is None or self._task is None:
            return
        if outcome.failure:
            line = _failure_line(outcome)
            self.first_failure = self.first_failure or line
            if self._verbose:
                self._bar.console.print(line, markup=False, highlight=False)
        self._done += 1
        self._failed += outcome.status == "failed"
        rate = self._done / max(monotonic() - self._started, 1e-9)
        self._bar.update(
            self._task,
            advance=1,
            rate=f"{rate:.{1 if rate >= 0.1 else 3}f} {self._thing}s/s",
            failed=f"[red]{self._failed} failed" if self._failed else "",
        )

    def resume(self, item: Item, frame: int) -> None:
        """Say from where a video goes on."""
        if self._bar is not None:
            line = _resume_line(item, frame)
            self._bar.console.print(line, markup=False, highlight=False)

    def part(self, item: Item, frame: int, of: int | None) -> None:
        """Say how far the video is."""
        if self._bar is not None and self._task is not None:
            total = f"/{of:,}" if of else ""
            self._bar.update(self._task, rate=f"{item.file_name}: frame {frame:,}{total}")

    def stop(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()


class Lines:
    """Progress as a line now and then, where there is no terminal."""

    def __init__(self, verbose: bool, thing: str) -> None:
        """Prepare; nothing is printed before `start`. Each file is a `thing`."""
        self._verbose = verbose
        self._thing = thing
        self.first_failure: str | None = None

    def start(self, total: int, cached: int) -> None:
        """Say how much there is to do."""
        self._total, self._cached = total, cached
        self._done = self._failed = 0
        self._started = self._last = monotonic()
        note(f"{counted(total, self._thing)}, {cached:,} of them recorded already")

    def advance(self, outcome: Outcome) -> None:
        """Count a file, and print a line if the last is some time ago."""
        if outcome.failure:
            line = _failure_line(outcome)
            self.first_failure = self.first_failure or line
            if self._verbose:
                note(line)
        self._done += 1
        self._failed += outcome.status == "failed"
        now = monotonic()
        if now - self._last >= LINE_EVERY_S:
            self._last = now
            rate = self._done / (now - self._started)
            left = (self._total - self._cached - self._done) / rate
            note(
                f"{self._cached + self._done:,}/{self._total:,} {self._thing}s, "
                f"{rate:.1f} {self._thing}s/s, "
                f"{left:.0f} s left, {self._failed} failed"
            )

    def resume(self, item: Item, frame: int) -> None:
        """Say from where a video goes on."""
        note(_resume_line(item, frame))

    def part(self, item: Item, frame: int, of: int | None) -> None:
        """Print a line about a video if the last is some time ago."""
        now = monotonic()
        if now - self._last >= LINE_EVERY_S:
            self._last = now
            total = f" of about {of:,}" if of else ""
            note(f"{item.file_name}: frame {frame:,}{total}")

    def stop(self) -> None:
        """Do nothing: the summary follows."""


def _resume_line(item: Item, frame: int) -> str:
    return f"{item.file_name} goes on from frame {frame:,}"


def _failure_line(outcome: Outcome) -> str:
    assert outcome.failure is not None
    return f"failed ({outcome.failure.stage}): {outcome.item.file_name}: {outcome.failure.message}"


def progress(verbosity: Verbosity, thing: str) -> Bar | Lines | None:
    """Return what shows progress of files that are `thing`s, or None if nothing is to be shown."""
    if verbosity.quiet:
        return None
    shown = Bar if sys.stderr.isatty() else Lines
    return shown(verbosity.verbose, thing)


def print_summary(summary: Summary, verbosity: Verbosity, first_failure: str | None = None) -> None:
    """Print what the run came to, with a failure of it where not all are shown."""
    if verbosity.as_json:
        typer.echo(orjson.dumps(summary.to_dict()).decode())
    if verbosity.quiet:
        return
    if summary.task == "embed":
        holds = counted(summary.annotations, "vector")
    else:
        thing = "caption" if summary.task == "caption" else "annotation"
        empty = counted(summary.empty, "image" if summary.frames is None else "frame")
        holds = f"{counted(summary.annotations, thing)}, {empty} without any"
    if summary.frames is not None:
        holds = f"{counted(summary.frames, 'frame')}, {holds}"
    note(
        f"{counted(summary.total, summary.thing)} in {summary.seconds:.1f} s: "
        f"{summary.processed:,} processed, {summary.cached:,} recorded already, "
        f"{summary.failed:,} failed; {holds}"
    )
    if summary.tokens is not None:
        sent, answered = summary.tokens
        cost = "" if summary.cost is None else f", about ${summary.cost:.4f}"
        note(f"{sent:,} tokens sent and {answered:,} answered{cost}")
    for output in summary.outputs:
        note(f"wrote {output}")
    if first_failure is not None and not verbosity.verbose:
        note(first_failure if summary.failed == 1 else f"the first that {first_failure}")
    if summary.failed and summary.outputs:
        note(f"failures are listed in {summary.outputs[0]}.failed.jsonl; run again to retry them")


def note_too_many(summary: Summary) -> None:
    """Say that more files failed than may."""
    failed = counted(summary.failed, "file")
    note(f"pixano-annotate: {failed} failed: more than --max-failures allows")


def print_forecast(forecast: Forecast, verbosity: Verbosity) -> None:
    """Print what a run would do."""
    if verbosity.as_json:
        typer.echo(orjson.dumps(forecast.to_dict()).decode())
    else:
        typer.echo(
            f"{counted(forecast.total, forecast.thing)}: {forecast.cached:,} recorded already, "
            f"{forecast.pending:,} to ask {forecast.provider}'s {forecast.model} about"
        )
        if forecast.requests is not None:
            typer.echo(f"about {counted(forecast.requests, 'request')}{_tokens(forecast)}")


def _tokens(forecast: Forecast) -> str:
    if forecast.tokens is None:
        return ""
    sent, answered = forecast.tokens
    cost = "no price is known" if forecast.cost is None else f"${forecast.cost:.4f}"
    return f", {sent:,} tokens sent and up to {answered:,} answered: {cost}"


def run_job(
    sources: Sequence[str],
    outputs: Sequence[Path],
    settings: Settings,
    command: Command,
    dry_run: bool,
    verbosity: Verbosity,
) -> int:
    """Run a job, or forecast it, and print what it came to; return the exit code."""
    from pixano_cli.annotate import forecast, job

    if dry_run:
        print_forecast(forecast.forecast(sources, outputs, settings, command), verbosity)
        return 0
    shown = progress(verbosity, command.thing)
    try:
        summary = signals.stopping(
            lambda stop: job.execute(
                sources,
                outputs,
                settings,
                command,
                progress=shown,
                stop=stop,
            )
        )
    except job.StoppedError as error:
        note(f"pixano-annotate: {error}")
        return signals.exit_code(1)
    print_summary(summary, verbosity, shown.first_failure if shown else None)
    if not summary.allowed:
        note_too_many(summary)
        return TOO_MANY_FAILURES
    return 0
