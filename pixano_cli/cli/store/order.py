"""`store vacuum | verify`: keep the store small and sound."""

from __future__ import annotations

from typing import Annotated

import typer

from pixano_cli.cli import tables
from pixano_cli.cli.store.opened import Debug, Json, Where, counted, opened


def vacuum(store: Where = None, as_json: Json = False, debug: Debug = False) -> None:
    """Give the room of what was deleted back to the disk. Others wait meanwhile."""
    with opened(store) as connected:
        before = connected.size()
        connected.vacuum()
        after = connected.size()
    if as_json:
        tables.print_json({"before": before, "after": after})
    else:
        typer.echo(f"{tables.size_text(before)} before, {tables.size_text(after)} now")


def verify(
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every input, and compare its sha256.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Put right what can be; no record, and no input of one, is removed."
        ),
    ] = False,
    store: Where = None,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Check that the store is whole; the exit code is 1 if it is not."""
    from dataclasses import asdict

    from pixano_cli.inference_store.verify import verify as check

    with opened(store) as connected:
        report = check(connected, deep=deep, repair=repair)
    if as_json:
        tables.print_json({"is_sound": report.is_sound, **asdict(report)})
    else:
        for problem in report.problems:
            typer.echo(tables.cell_text(problem))
        looked = f"{counted(report.records, 'record')} and {counted(report.blobs, 'input')} checked"
        if report.elsewhere:
            looked += f" ({counted(report.elsewhere, 'record')} with inputs kept elsewhere)"
        if report.cleared:
            looked += f", {counted(report.cleared, 'left-over')} of killed processes cleared away"
        left = [each for each in report.problems if not each.is_repaired]
        typer.echo(
            f"{looked}: {counted(len(left), 'kind')} of problem" if left else f"{looked}: ok"
        )
    return 0 if report.is_sound else 1
