"""`store tag | protect | delete`: they change every record that the filters name."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pixano_cli.annotate.selection import Filters
from pixano_cli.cli import console, filter_options, tables
from pixano_cli.cli.store.opened import (
    Debug,
    Json,
    Where,
    counted,
    opened,
    read,
    require_choice,
)
from pixano_cli.errors import UsageError

if TYPE_CHECKING:
    from pixano_cli.inference_store.overview import DeletionOverview

All = Annotated[bool, typer.Option("--all", help="Every record.")]


@filter_options.filtered
def tag(
    filters: Filters,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Attach this, in place of what has the key. KEY:TYPE=VALUE for a type (string, "
            "int, float, json) other than what the value looks like. Repeat for more.",
        ),
    ] = None,
    unsetting: Annotated[
        list[str] | None,
        typer.Option("--unset", metavar="KEY", help="Remove this key. Repeat for more."),
    ] = None,
    everything: All = False,
    store: Where = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Attach metadata to records, or remove it."""
    from pixano_cli.annotate.tags import read_tags
    from pixano_cli.inference_store import marking

    require_choice(filters, everything, "tag")
    added, removed = read_tags(setting or (), unsetting or ())
    if not added and not removed:
        raise UsageError("say what to attach with --set KEY=VALUE, or to remove with --unset KEY")
    with opened(store) as connected:
        models, asked = read(connected, filters)
        tagged = sum(marking.tag(connected, model, asked, added, removed) for model in models)
    _print_done("tagged" if added else "untagged", tagged, as_json)


@filter_options.filtered
def protect(
    filters: Filters,
    off: Annotated[bool, typer.Option("--off", help="Protect them no longer.")] = False,
    everything: All = False,
    store: Where = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Keep records from what retention policies delete."""
    from pixano_cli.inference_store import marking

    require_choice(filters, everything, "protect")
    with opened(store) as connected:
        models, asked = read(connected, filters)
        marked = sum(
            marking.protect(connected, model, asked, protected=not off) for model in models
        )
    _print_done("no longer protected" if off else "protected", marked, as_json)


@filter_options.filtered
def delete(
    filters: Filters,
    everything: All = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be deleted; do nothing.")
    ] = False,
    store: Where = None,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Delete records for good, with their metadata and inputs; asks first.

    Protected ones too: they are protected from retention policies. Files that were annotated stay
    where they are, and are asked about again by the next run.
    """
    from dataclasses import asdict

    from pixano_cli.inference_store.inference import bulk_delete_inferences
    from pixano_cli.inference_store.overview import deletion_overview

    require_choice(filters, everything, "delete")
    deleted = 0
    with opened(store) as connected:
        models, asked = read(connected, filters)
        with connected.read() as connection:
            planned = deletion_overview(connection, models, asked)
        console.note(_plan(planned, connected.name))
        if planned.records and not dry_run:
            if not yes and not _agreed():
                console.note("nothing is deleted")
                return 1
            deleted = sum(len(bulk_delete_inferences(model, asked)) for model in models)
    if as_json:
        tables.print_json({"deleted": deleted, "planned": asdict(planned)})
    elif planned.records and not dry_run:
        typer.echo(f"{counted(deleted, 'record')} deleted")
    return 0


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise UsageError("nothing is deleted without a yes: give --yes")
    return typer.confirm("Delete them?", err=True)


def _plan(planned: DeletionOverview, name: str) -> str:
    if not planned.records:
        return f"store {name}: no record passes the filters"
    whose = "its" if planned.records == 1 else "their"
    parts = [f"{counted(planned.records, 'record')} with {whose} metadata"]
    if planned.blobs:
        parts.append(f"{counted(planned.blobs, 'input')} ({tables.size_text(planned.size)})")
    text = f"to be deleted for good from store {name}: {' and '.join(parts)}"
    if planned.protected:
        verb = "is" if planned.protected == 1 else "are"
        text += f"; {planned.protected:,} of the records {verb} protected from retention policies"
    return text


def _print_done(verb: str, number: int, as_json: bool) -> None:
    if as_json:
        tables.print_json({"records": number})
    else:
        typer.echo(f"{counted(number, 'record')} {verb}")
